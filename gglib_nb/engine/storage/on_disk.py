"""What is on the disk of some files, for those who only want to know: the kernel's side asks this before a download."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from gglib_nb.domain.download import PlannedFile
from gglib_nb.engine.storage.journal import Journal, PartIdentity
from gglib_nb.engine.storage.paths import journal_path, part_path
from gglib_nb.system import is_file


def present_bytes(files: Iterable[PlannedFile], commit_sha: str) -> int:
    """How much of the files of a commit is there: of each target all, what its journal vouches for, or nothing.

    It goes by sizes and journals and reads no content; only a download verifies. What a journal vouches for counts
    where a resume would go on with it, which is not so when the file has changed since. A file of unknown size
    counts nothing.
    """
    parts: dict[str, list[PlannedFile]] = {}
    for file in files:
        parts.setdefault(file.target, []).append(file)
    return sum(_present_at(Path(target), each, commit_sha) for target, each in parts.items())


def present_by_file(files: Sequence[PlannedFile], commit_sha: str) -> tuple[int, ...]:
    """The same, file by file; of files that share a target the first are taken to be there first."""
    left = {
        target: _present_at(Path(target), [file for file in files if file.target == target], commit_sha)
        for target in dict.fromkeys(file.target for file in files)
    }
    found = []
    for file in files:
        found.append(min(left[file.target], file.size_bytes or 0))
        left[file.target] -= found[-1]
    return tuple(found)


def _present_at(target: Path, parts: Sequence[PlannedFile], commit_sha: str) -> int:
    sizes = [part.size_bytes for part in parts if part.size_bytes is not None]
    if len(sizes) < len(parts):
        return 0
    size_bytes = sum(sizes)
    try:
        if target.stat().st_size == size_bytes:
            return size_bytes
    except OSError:
        pass
    state = Journal.read(journal_path(target))
    wanted = tuple(PartIdentity.of(part, part.size_bytes, commit_sha) for part in parts)
    if state is None or state.parts != wanted or not is_file(part_path(target)):
        return 0
    return state.done.total_bytes
