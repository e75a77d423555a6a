"""Verifying and repairing registered models: what to hash, what to record, and what to download again.

The engine hashes. A listing and a model in, a plan out; the caller chooses the commit and calls the Hub.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from gglib_nb.domain.download import PlannedDownload, PlannedFile, StoredFile
from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.library import CheckedFile, Verification, VerifyProgress
from gglib_nb.domain.listing import RepoListing
from gglib_nb.domain.model import Model
from gglib_nb.domain.model_summary import Looks, state_of
from gglib_nb.domain.variants import variants_of
from gglib_nb.engine.protocol import FileToCheck
from gglib_nb.errors import RemoteChangedError, RequestError
from gglib_nb.manager.engine import FileCheck
from gglib_nb.manager.importing import stated_sha256
from gglib_nb.manager.model_files import is_in_hub_cache
from gglib_nb.manager.resolving import planned_file, shard_files

OnVerifyProgress = Callable[[VerifyProgress], None]


def files_to_check(models: Iterable[Model], block_digests: Callable[[str], str]) -> list[FileToCheck]:
    """Every file of the models, each once.

    Args:
        models: The models to check.
        block_digests: The known digests of the blocks of a content, by its SHA-256; empty unknown.
    """
    files = {file.target: file for model in models for file in model.files}
    return [
        FileToCheck(
            file.target, file.size_bytes, file.sha256, "" if file.sha256 is None else block_digests(file.sha256)
        )
        for file in files.values()
    ]


def files_to_record(models: Iterable[Model], checked: Iterable[CheckedFile], at_s: float) -> list[StoredFile]:
    """What to record about the files: correct, or wrong and where.

    A file that is missing, unreadable or was changed while it was read keeps its record.
    """
    results = {result.path: result for result in checked}
    files = {file.target: file for model in models for file in model.files}
    found = (_to_record(file, results.get(target), at_s) for target, file in files.items())
    return [file for file in found if file is not None]


def verifications(models: Iterable[Model], checked: Iterable[CheckedFile]) -> list[Verification]:
    """The results, by model."""
    results = {result.path: result for result in checked}
    return [Verification(str(model.id), tuple(results[file.target] for file in model.files)) for model in models]


def teller(
    check: FileCheck, models: Sequence[Model], files: Sequence[FileToCheck], tell: OnVerifyProgress
) -> Callable[[], None]:
    """Passes on the progress of a check, when it is called and something is new."""
    owners = {file.target: str(model.id) for model in reversed(models) for file in model.files}
    total_bytes = sum(file.size_bytes for file in files)
    last: tuple[int, int] | None = None

    def pass_on() -> None:
        nonlocal last
        if (reading := check.reading) is not None and reading != last:
            last = reading
            path = files[reading[0]].path
            tell(VerifyProgress(owners[path], path, min(reading[1], total_bytes), total_bytes))

    return pass_on


def _to_record(file: StoredFile, result: CheckedFile | None, at_s: float) -> StoredFile | None:
    if result is None or result.mtime_ns is None or result.sha256 is None:
        return None
    if result.verdict == "wrong":
        return replace(file, mtime_ns=result.mtime_ns, wrong_ranges=result.wrong_ranges or (), verified_at_s=None)
    return replace(
        file,
        sha256=result.sha256,
        mtime_ns=result.mtime_ns,
        is_verified=file.is_verified or stated_sha256(Path(file.target)) == result.sha256,
        # If the Hub gives no SHA-256, this one detects later changes.
        verified_at_s=at_s if result.verdict == "right" else None,
        wrong_ranges=None,
        block_digests=result.block_digests,
    )


# --- repairing ---


def repair_plan(model: Model, listing: RepoListing, models_directory: Path) -> PlannedDownload:
    """Downloads the wrong and missing parts of a model and keeps the rest.

    Args:
        model: As the catalog has it; its files say which bytes are wrong.
        listing: Of the commit that it came from.
        models_directory: The models folder.

    Raises:
        RemoteChangedError: The Hub no longer has these files, or has others with their names.
    """
    files = tuple(_repaired(model, remote) for remote in remote_files(model, listing, models_directory))
    kinds = tuple(dict.fromkeys(file.kind for file in model.files if file.kind != "shard"))
    return PlannedDownload(
        id=model.id,
        commit_sha=listing.commit_sha,
        label=model.label,
        files=files,
        reason="Repair: only the damaged parts are downloaded.",
        companions=kinds,
        replaces=True,
    )


def remote_files(model: Model, listing: RepoListing, models_directory: Path) -> list[PlannedFile]:
    """The Hub's files that a model's files came from, at the targets of the model.

    Raises:
        RemoteChangedError: The Hub no longer has one of them.
    """
    planned = {file.path_in_repo: file for file in _planned(model, listing, models_directory)}
    by_place: dict[str, list[PlannedFile]] = {}
    for file in planned.values():
        by_place.setdefault(parse_path(file.path_in_repo).place, []).append(file)
    found = []
    for stored in model.files:
        parts = by_place.get(parse_path(stored.path_in_repo).place)
        if parts is None and (renamed := listing.with_content(stored.sha256)) is not None:
            parts = [planned_file(models_directory, listing, renamed.path, stored.kind)]
        if parts is None:
            raise RemoteChangedError(
                f"{listing.repo_id} no longer has {stored.path_in_repo} at the commit {listing.commit_sha[:8]}."
            )
        found += [replace(part, target=stored.target, kind=stored.kind) for part in parts]
    return found


def _planned(model: Model, listing: RepoListing, models_directory: Path) -> Iterable[PlannedFile]:
    places = {parse_path(file.path_in_repo).place for file in model.files}
    variants = variants_of((file.path, file.size_bytes) for file in listing.files)
    for variant in variants.variants:
        if places.intersection(parse_path(path).place for path in variant.files):
            yield from shard_files(models_directory, listing, variant)
    for file in listing.files:
        if file.path in places and parse_path(file.path).split is None:
            yield planned_file(models_directory, listing, file.path, "shard")


def _repaired(model: Model, remote: PlannedFile) -> PlannedFile:
    stored = next(file for file in model.files if file.target == remote.target)
    if stored.sha256 not in (None, remote.sha256) and parse_path(stored.path_in_repo).split is None:
        raise RemoteChangedError(
            f"{remote.path_in_repo} is another file on the Hub now, so the file here cannot be repaired. "
            f"Download the new version: %gguf update {model.id}"
        )
    return replace(remote, known_mtime_ns=stored.mtime_ns, wrong_ranges=stored.wrong_ranges)


def has_known_faults(model: Model, looks: Looks) -> bool:
    """Whether files of a model are known to be wrong or missing, and none has changed since."""
    return bool(faulty_paths(model, looks)) and state_of(model, looks) in ("wrong", "missing")


def faulty_paths(model: Model, looks: Looks) -> tuple[str, ...]:
    """The files that are known to be wrong, or are missing."""
    return tuple(file.target for file in model.files if file.wrong_ranges is not None or looks.get(file.target) is None)


def bytes_to_fetch(plan: PlannedDownload, looks: Looks) -> int | None:
    """Bytes that a repair downloads; None unknown."""
    sizes = [_missing(file, is_there=looks.get(file.target) is not None) for file in plan.files]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _missing(file: PlannedFile, *, is_there: bool) -> int | None:
    if not is_there or file.wrong_ranges == ():
        return file.size_bytes
    return sum(end - start for start, end in file.wrong_ranges or ())


def refuse_unrepairable(model: Model) -> None:
    """Refuses models whose correct content is unknown.

    Raises:
        RequestError: Its repository is unknown, or its files belong to the Hugging Face cache.
    """
    if model.origin == "local":
        raise RequestError(f"The repository of {model.id} is unknown, so nothing can be downloaded for it.")
    if any(is_in_hub_cache(Path(file.target)) for file in model.files):
        raise RequestError(
            f"The files of {model.id} belong to the Hugging Face cache, which is never changed here. "
            f"Download your own copy: %gguf queue {model.id.repo_id}"
        )
