"""Files on this machine that may hold the same bytes as one that is to be fetched: found by name and size, not read."""

from collections.abc import Iterator
from glob import escape
from pathlib import Path

from gglib_nb.system import matching


def identical_candidates(folders: tuple[str, ...], target: Path, size_bytes: int, sha256: str) -> Iterator[Path]:
    """Files that may hold the same bytes: blobs of a Hugging Face cache by their name, others by name and size.

    A cache's blob may be a link into a store that several repositories share, so links are followed to the end.
    """
    for folder in map(Path, folders):
        blobs = [repository / "blobs" / sha256 for repository in matching(folder, "models--*")]
        blobs.append(folder / "blobs" / f"sha256-{sha256}")  # Ollama's store
        for path in (*blobs, *_namesakes(folder, target)):
            try:
                found = path.resolve(strict=True)
                if found.stat().st_size == size_bytes and found.is_file() and found != target:
                    yield found
            except OSError:
                continue


def _namesakes(folder: Path, target: Path) -> Iterator[Path]:
    """Files of the target's name in `<owner>/<repo>/` and one folder below; deeper would mean walking a home folder."""
    name = escape(target.name)
    for pattern in (f"*/*/{name}", f"*/*/*/{name}"):
        yield from (path for path in matching(folder, pattern) if path != target)
