"""What a search brought, seen from this machine: whether it fits, whether it is here, and GGUF versions of what has none.

Takes results of the hub and adds what the disk and the memory say; asks the hub for nothing but children of a repository.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final, Protocol

from gglib_nb.domain.fit import MachineMemory
from gglib_nb.domain.likely import likely_memory_bytes, likely_size_bytes
from gglib_nb.domain.listing import RepoSummary
from gglib_nb.domain.plan import Fit, fit_of
from gglib_nb.errors import GglibError, NoGgufFilesError

_MOST_CHILDREN: Final = 5


class SearchingHub(Protocol):
    """What is asked of the hub."""

    def search(self, words: str = "", *, quantized_from: str | None = None, limit: int = 20) -> list[RepoSummary]:
        """Repositories with GGUF files."""


def judged(
    found: Iterable[RepoSummary], memory: MachineMemory, repos_here: frozenset[str], endpoint: str
) -> list[RepoSummary]:
    """The same rows, with how large the recommended variant likely is, whether it fits, and whether it is here."""
    return [
        replace(
            row,
            likely_size_bytes=likely_size_bytes(row.parameter_count),
            fit=_fit(row.parameter_count, memory),
            is_here=row.repo_id.casefold() in repos_here,
            page_url=f"{endpoint}/{row.repo_id}",
        )
        for row in found
    ]


def _fit(parameter_count: int | None, memory: MachineMemory) -> Fit:
    """In the best place: what fits the GPU fits; else what the machine's memory says."""
    needed = likely_memory_bytes(parameter_count)
    in_gpu = fit_of(needed, memory.vram_bytes)
    return in_gpu if in_gpu in ("fits", "tight") else fit_of(needed, memory.ram_bytes)


@contextmanager
def pointing_to_children(hub: SearchingHub, repo_id: str) -> Iterator[None]:
    """Where a repository has no GGUF files, names those that were made of it.

    Raises:
        NoGgufFilesError: As the block raised it, or with `alternatives`.
    """
    try:
        yield
    except NoGgufFilesError:
        children: list[RepoSummary] = []
        # Where the hub has no such search, the first error says enough.
        with suppress(GglibError):
            children = hub.search(quantized_from=repo_id, limit=_MOST_CHILDREN)
        if not children:
            raise
        names = tuple(row.repo_id for row in children)
        raise NoGgufFilesError(
            f"{repo_id} holds no GGUF file itself. Made of it, the most used first: {', '.join(names)}. "
            f"Take one: %gguf queue {names[0]}",
            alternatives=names,
        ) from None
