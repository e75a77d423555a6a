"""Finished GGUF files of this machine that may hold the same tensors as one that is to be fetched.

Looks into the folder of the repository (any commit, any variant, any split) and at the files that it is given, reads their
headers and nothing else. A donor is only ever read; one that changes meanwhile is none any more.
"""

import os
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.gguf import read_tensors
from gglib_nb.domain.gguf_tensors import TensorTable
from gglib_nb.domain.values import Value
from gglib_nb.errors import GgufError
from gglib_nb.system import matching, read_at

# Variants stand in the repository's folder or in one of their own; deeper than that nothing is looked for.
_PATTERNS: Final = ("*.gguf", "*/*.gguf", "*/*/*.gguf")
# A header costs milliseconds to read, and a repository has dozens of files at most.
_MOST_FILES: Final = 128


class DonorFile(Value, frozen=True):
    """One file that may give tensors.

    Attributes:
        path: Where it stands.
        name: What a person calls it: the quantization where it is of the same repository, else its file name.
        size_bytes: When its header was read.
        mtime_ns: Likewise.
        is_of_repository: Whether it stands in the folder of the repository that is fetched from.
        table: Its header, and where its tensors lie.
    """

    path: Path
    name: str
    size_bytes: int
    mtime_ns: int
    is_of_repository: bool
    table: TensorTable

    def is_unchanged(self, descriptor: int) -> bool:
        """Whether the file that is open there is still the one whose header was read.

        Raises:
            OSError: That cannot be asked any more.
        """
        found = os.fstat(descriptor)
        return (found.st_size, found.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


def repository_folder(target: Path, repo_id: str) -> Path | None:
    """The folder of the repository in which a target stands; None where it stands elsewhere."""
    names = tuple(repo_id.split("/"))
    return next((folder for folder in target.parents if folder.parts[-2:] == names), None)


def find_donors(
    target: Path, repo_id: str, others: Iterable[str], least_bytes: int, stop: threading.Event
) -> tuple[DonorFile, ...]:
    """The files that may give tensors; none where all of them together could not give enough.

    Args:
        target: What is to be fetched; a file that stands there, of another commit, is a donor too.
        repo_id: Where it is fetched from.
        others: Further files to look at, of which some may be gone.
        least_bytes: Less than this is not enough.
        stop: Ends the looking.
    """
    folder = repository_folder(target, repo_id)
    seen: dict[tuple[int, int], tuple[Path, os.stat_result]] = {}
    for path in (*_gguf_files(folder), *map(Path, others)):
        try:
            found = path.stat()
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode):  # to open a pipe would be to wait
            seen.setdefault((found.st_dev, found.st_ino), (path, found))
    files = list(seen.values())[:_MOST_FILES]
    if sum(found.st_size for _, found in files) < least_bytes:
        return ()
    donors = [donor for path, found in files if not stop.is_set() and (donor := _donor(path, found, folder))]
    return tuple(donors) if sum(donor.table.data_bytes for donor in donors) >= least_bytes else ()


def used_names(donors: Sequence[DonorFile], bytes_by_donor: Sequence[int]) -> tuple[str, ...]:
    """What the donors that give something are called, the one that gives most first."""
    by_name: dict[str, int] = {}
    for donor, count in zip(donors, bytes_by_donor, strict=True):
        if count:
            by_name[donor.name] = by_name.get(donor.name, 0) + count
    return tuple(sorted(by_name, key=lambda name: -by_name[name]))


def _gguf_files(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        for pattern in _PATTERNS:
            yield from sorted(matching(folder, pattern))


def _donor(path: Path, found: os.stat_result, folder: Path | None) -> DonorFile | None:
    try:
        with path.open("rb", buffering=0) as file:
            descriptor = file.fileno()
            table = read_tensors(lambda offset, length: read_at(descriptor, length, offset), found.st_size)
    except (OSError, GgufError):
        return None
    is_own = folder is not None and path.is_relative_to(folder)
    label = parse_path(path.relative_to(folder).as_posix()).label if is_own and folder is not None else None
    return DonorFile(path, label or path.name, found.st_size, found.st_mtime_ns, is_own, table)
