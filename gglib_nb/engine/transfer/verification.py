"""Compares the digests of what arrived with what the hub states, part by part.

No I/O of its own: the hasher has hashed, and the caller has wrong bytes fetched again.
"""

from collections.abc import Callable

from gglib_nb.engine.storage.filesystem import storage_error
from gglib_nb.engine.transfer.target import Part, Target
from gglib_nb.errors import IntegrityError


def verify_parts(target: Target, refetch: Callable[[Target, Part], None]) -> bool:
    """Compare the digests that have come since the last call.

    Args:
        target: Its `proven_parts` is brought up to date.
        refetch: Has the bytes of a part fetched again; a part that was wrong gets one more chance.

    Returns:
        Whether every part is right.

    Raises:
        IntegrityError: A part was wrong twice.
        TransferError: The partial file cannot be read.
    """
    if target.partial is None:
        return False
    hasher = target.partial.hasher
    if hasher.error is not None:
        raise storage_error(hasher.error, target.path)
    for actual in hasher.digest.digests[target.proven_parts :]:
        part = target.parts[target.proven_parts]
        if part.sha256 not in (None, actual):
            _wrong(target, part, actual, refetch)
            return False
        target.proven_parts += 1
    return target.proven_parts == len(target.parts)


def _was_copied(target: Target, part: Part) -> bool:
    """Whether some of it was copied on a guess: then that is what is fetched, before all of it is."""
    try:
        return target.forget_copied(target.parts.index(part))
    except OSError as error:
        raise storage_error(error, target.path) from error


def _wrong(target: Target, part: Part, actual: str, refetch: Callable[[Target, Part], None]) -> None:
    if _was_copied(target, part):
        return
    expected = part.sha256 or ""
    refetch(target, part)
    if part.is_refetched:
        raise IntegrityError(
            f"{part.planned.path_in_repo} arrived twice with another SHA-256 than the Hub states "
            "and was thrown away; retry later.",
            expected=expected,
            actual=actual,
        )
    part.is_refetched = True
    part.remote = None
