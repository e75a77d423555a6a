"""What came of hashing files that stand on the disk: of one file, of a model, and on the way. Values only."""

from typing import Literal

from gglib_nb.domain.values import Value

FileVerdict = Literal["right", "unstated", "wrong", "changed", "missing", "unreadable"]
"""right: it hashes to what the Hub states, or to what it did when it came. unstated: hashed for the first time, and nobody
states what it should be. wrong: the bytes are others. changed: somebody wrote to it while it was read. missing,
unreadable: as they say."""


class CheckedFile(Value, frozen=True):
    """What came of hashing one file.

    Attributes:
        path: Where it stands.
        verdict: What came out.
        sha256: What it hashes to now; None where it was not hashed to its end.
        size_bytes: Its size now; None where it is missing.
        mtime_ns: Its modification time now; None where it is missing.
        wrong_ranges: Which bytes are wrong, in whole blocks, half-open; empty where only the whole is known to be; None
            where nothing is wrong.
        block_digests: Short digests of its blocks in hexadecimal; empty where it was not hashed to its end.
        reason: Why it cannot be read, in words; empty otherwise.
    """

    path: str
    verdict: FileVerdict
    sha256: str | None = None
    size_bytes: int | None = None
    mtime_ns: int | None = None
    wrong_ranges: tuple[tuple[int, int], ...] | None = None
    block_digests: str = ""
    reason: str = ""


class Verification(Value, frozen=True):
    """What came of verifying one model.

    Attributes:
        id: The model's id.
        files: What came of each of its files, in order.
    """

    id: str
    files: tuple[CheckedFile, ...]

    @property
    def is_right(self) -> bool:
        """Whether every file is there and hashes to what it should, where anybody says what that is."""
        return all(file.verdict in ("right", "unstated") for file in self.files)

    @property
    def faults(self) -> tuple[CheckedFile, ...]:
        """The files that are not right."""
        return tuple(file for file in self.files if file.verdict not in ("right", "unstated"))


class VerifyProgress(Value, frozen=True):
    """How far a verification is.

    Attributes:
        id: The model that is read now.
        path: The file that is read now.
        done_bytes: Read of all models that are verified together.
        total_bytes: Of all of them.
    """

    id: str
    path: str
    done_bytes: int
    total_bytes: int


class Repair(Value, frozen=True):
    """What mending a model comes to.

    Attributes:
        id: The model's id; that of the download that mends it, too.
        is_needed: Whether anything is wrong; where not, nothing was queued.
        faulty_paths: The files that are not right.
        bytes_to_fetch: How much is fetched; the rest is taken from what is here. None where a size is unknown.
        position: Of the download in the queue; 0 where it runs already, or is not needed.
    """

    id: str
    is_needed: bool
    faulty_paths: tuple[str, ...]
    bytes_to_fetch: int | None
    position: int
