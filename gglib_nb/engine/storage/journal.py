"""What a partial file holds, written down so that it survives `kill -9` and a power cut.

The journal is a text file beside the partial one: a first line that says which file this is, then one line
for every state, the whole of it each time. The last line that is whole counts. Lines begin with a CRC-32
that is seeded with the first line's, so that neither a torn line nor a stale one of another journal is read.

Order of writes and syncs, and why it is enough:

* A byte is written to the partial file (`pwrite`), then its range is recorded as `written`. When the engine
  is killed, the kernel keeps both: what is recorded is there. At most the bytes since the last record
  (half a second) are fetched again.
* A power cut may keep the journal's line and lose the file's bytes. So `fdatasync` of the partial file is
  called from time to time, and only after it returns the ranges that were written before it was called
  are recorded as `synced`. The first line carries the boot's id: in the same boot `written` is believed,
  in another one (or on another machine, or where the id is unknown) only `synced` is.
* A `synced` line itself reaches the disk with the next sync; until then a power cut costs only what it said.
* A journal is begun by writing it whole under another name, `fdatasync` and a rename: there is never half a first
  line, and a power cut during a resume finds the old journal or the new one.
* At the end: `fsync` of the partial file, then the line `verified` with size, digest and modification time,
  then the rename of the partial file, then `fsync` of the folder. A final file beside a journal whose
  `verified` fits it need not be hashed again.

* What was copied from other files of this machine, on a guess that only the digest can confirm, is `written` like all
  else and named as `copied` too: should the digest be wrong, these ranges are the first to be doubted.

Nothing in a journal is trusted with the content: the digest is always taken from the disk.
"""

import json
import os
import secrets
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from gglib_nb.domain.download import PlannedFile
from gglib_nb.engine.storage.byte_ranges import Range, RangeSet
from gglib_nb.engine.storage.filesystem import syncer_of
from gglib_nb.engine.storage.paths import open_beside
from gglib_nb.system import boot_id, sync_data

# Beyond this the journal is begun anew with its last state alone.
_LONGEST_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class PartIdentity:
    """One remote file as the partial file holds it.

    Attributes:
        path_in_repo: Path in the repository.
        offset_bytes: Where it begins in the file on the disk.
        size_bytes: Its size.
        digest: Its SHA-256; where the hub states none, the commit it comes from.
    """

    path_in_repo: str
    offset_bytes: int
    size_bytes: int
    digest: str

    @classmethod
    def of(cls, file: PlannedFile, size_bytes: int | None, commit_sha: str) -> Self:
        """That of a file that is to be fetched, of that size (None: nobody says) and from that commit."""
        return cls(file.path_in_repo, file.offset_bytes, size_bytes or 0, file.sha256 or f"commit {commit_sha}")


@dataclass(frozen=True, slots=True)
class Verified:
    """The file as it was when its digest was found right.

    Attributes:
        size_bytes: Its size.
        sha256: Of the whole.
        mtime_ns: Modification time; a rename keeps it.
    """

    size_bytes: int
    sha256: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied from other files of this machine.

    Attributes:
        ranges: Which bytes.
        names: What the files are called, the one that gave most first.
        is_wrong: The digest was wrong with such bytes: they were forgotten, and nothing is copied any more.
    """

    ranges: RangeSet = field(default_factory=RangeSet)
    names: tuple[str, ...] = ()
    is_wrong: bool = False


@dataclass(frozen=True, slots=True)
class JournalState:
    """What a journal says.

    Attributes:
        parts: Which file it is about.
        done: The bytes that may be believed in this boot.
        synced: The bytes that may be believed after a power cut as well.
        verified: Set once the digest was found right; None before.
        copied: Of `done`, what was not fetched.
    """

    parts: tuple[PartIdentity, ...]
    done: RangeSet
    synced: RangeSet
    verified: Verified | None
    copied: Copied = field(default_factory=Copied)


def _line(record: dict[str, Any], seed: int) -> bytes:
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text, seed), text)


def _parse(line: bytes, seed: int) -> dict[str, Any] | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text, seed):
        return None
    record: dict[str, Any] = json.loads(text)
    return record


def read_state(data: bytes, boot: str) -> JournalState | None:
    """What a journal's bytes say to somebody in this boot; None where not even its first line is whole."""
    first, *lines = data.split(b"\n")
    header = _parse(first, 0)
    if header is None:
        return None
    seed = zlib.crc32(first)
    records = [record for line in lines if (record := _parse(line, seed)) is not None]
    last = records[-1] if records else {"written": [], "synced": [], "verified": None}
    is_same_boot = bool(boot) and header["boot"] == boot
    synced = RangeSet(map(tuple, last["synced"]))
    done = RangeSet(map(tuple, last["written"])) if is_same_boot else synced.copy()
    return JournalState(
        parts=tuple(PartIdentity(**part) for part in header["parts"]),
        done=done,
        synced=synced,
        verified=None if last["verified"] is None else Verified(**last["verified"]),
        copied=_copied(last.get("copied"), done),
    )


def _copied(record: dict[str, Any] | None, done: RangeSet) -> Copied:
    if record is None:
        return Copied()
    ranges = RangeSet(piece for start, end in record["ranges"] for piece in done.within(start, end))
    return Copied(ranges, tuple(record["names"]), bool(record["is_wrong"]))


class Journal:
    """A journal that is being written; one thread at a time uses it."""

    def __init__(self, path: Path, parts: tuple[PartIdentity, ...]) -> None:
        self.path = path
        self._parts = parts
        self._fd = -1
        self._seed = 0
        self._length = 0

    @staticmethod
    def read(path: Path) -> JournalState | None:
        """What the journal there says; None without one that can be read."""
        try:
            return read_state(path.read_bytes(), boot_id())
        except (OSError, ValueError, KeyError, TypeError):  # gone, or of another version
            return None

    def begin(self, done: Iterable[Range], synced: Iterable[Range], copied: Copied | None = None) -> None:
        """Write it anew with this state, replacing what stood there.

        Raises:
            OSError: The folder cannot be written.
            StorageError: A link stands in its place.
        """
        header = {"boot": boot_id(), "nonce": secrets.token_hex(8), "parts": [asdict(part) for part in self._parts]}
        first = _line(header, 0)
        self._seed = zlib.crc32(first[:-1])
        fresh = self.path.with_name(self.path.name + ".new")
        content = first + self._state_line(done, synced, None, copied)
        with os.fdopen(open_beside(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(content)
            file.flush()
            sync_data(file.fileno())
        self.close()
        fresh.replace(self.path)
        self._fd = open_beside(self.path, os.O_WRONLY | os.O_APPEND)
        self._length = len(content)

    def record(
        self, done: RangeSet, synced: RangeSet, verified: Verified | None = None, copied: Copied | None = None
    ) -> None:
        """Add a line with this state.

        Raises:
            OSError: It cannot be written.
        """
        if self._length > _LONGEST_BYTES:
            self.begin(done, synced, copied)
        line = self._state_line(done, synced, verified, copied)
        os.write(self._fd, line)
        self._length += len(line)

    def syncer(self) -> Callable[[], None]:
        """A function that brings the lines written so far to the disk; it may run in any thread, also after `close`."""
        return syncer_of(self._fd)

    def close(self) -> None:
        """Let go of the file; it stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _state_line(
        self, done: Iterable[Range], synced: Iterable[Range], verified: Verified | None, copied: Copied | None
    ) -> bytes:
        state: dict[str, Any] = {
            "written": list(done),
            "synced": list(synced),
            "verified": None if verified is None else asdict(verified),
        }
        if copied is not None and (copied.ranges.total_bytes or copied.is_wrong):
            ranges = list(copied.ranges)
            state["copied"] = {"ranges": ranges, "names": copied.names, "is_wrong": copied.is_wrong}
        return _line(state, self._seed)
