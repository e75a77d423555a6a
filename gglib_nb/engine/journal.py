"""A record of a partial file's contents that survives `kill -9` and a power cut.

The journal is a file of two slots beside the partial file. Every record is complete (the file's identity, the bytes that
are on the disk) and is written to the slot that does not hold the newest one, with a number and a CRC-32: a record that a
full disk or a kill truncates damages only its own slot, and the previous record is still valid. The file never grows.

The order of writes and syncs, and why it is sufficient:

* A byte is written to the partial file, then its range is recorded. When the engine is killed, the system keeps both:
  recorded bytes are on the disk. At most the bytes since the last record (half a second) are fetched again.
* A power cut may keep the record and lose the file's bytes. So the partial file is synced from time to time, and only
  ranges written before that sync are recorded as synced. A record contains the boot's id: in the same boot all its
  ranges are trusted, in another one (or on another machine, or if the id is unknown) only the synced ones.
* A new journal is created as a separate file, synced and renamed: the old or the new one always exists, and a writer that
  lost its lease still writes into the old one, which no process reads.
* At the end the partial file is synced, then `verified` is recorded with size, digest and modification time, then the
  file is renamed. A file that matches its journal's `verified` need not be hashed again.

The journal never replaces the digest, which is always computed from the bytes on the disk. If a journal has
another format or cannot be read, no byte of the partial file is trusted.
"""

import os
import stat
import zlib
from pathlib import Path
from typing import Final, Self

import msgspec

from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.values import Value
from gglib_nb.engine.disk import create_beside, journal_path, part_path, read_small, status_of, write_all
from gglib_nb.engine.pieces import Pieces, RangeSet, Run, decode_runs, encode_runs
from gglib_nb.system import boot_id, sync_data

_SLOT_BYTES: Final = 128 * 1024
_RUNS_BYTES: Final = 96 * 1024  # five thousand runs; a file of two thousand copied tensors has fewer
_MAGIC: Final = b"gglib journal 2\n"
_HEAD_BYTES: Final = len(_MAGIC) + 16


class PartIdentity(msgspec.Struct, frozen=True):
    """One remote file in the partial file, starting at `offset_bytes`.

    `size_bytes` is 0 if unknown; `digest` is the SHA-256 or, if the hub states none, the commit the file comes from.
    """

    path_in_repo: str
    offset_bytes: int
    size_bytes: int
    digest: str

    @classmethod
    def of(cls, file: PlannedFile, size_bytes: int | None, commit_sha: str) -> Self:
        """The identity of a file to be fetched, of this size (None: unknown) and from this commit."""
        return cls(file.path_in_repo, file.offset_bytes, size_bytes or 0, file.sha256 or f"commit {commit_sha}")


class Verified(msgspec.Struct, frozen=True):
    """The file as it was when its digest was verified; a rename keeps the modification time."""

    size_bytes: int
    sha256: str
    mtime_ns: int


class Record(msgspec.Struct, frozen=True):
    """The contents of one record.

    Attributes:
        boot: Id of the boot in which it was written.
        parts: The identity of the file.
        runs: The bytes on the disk (`pieces.encode_runs`).
        donors: Names of the files that bytes were copied from, the one with most bytes first.
        is_copy_wrong: The digest was wrong with copied bytes: they were forgotten, and nothing more is copied.
        verified: Set once the digest is verified.
    """

    boot: str
    parts: tuple[PartIdentity, ...]
    runs: bytes
    donors: tuple[str, ...] = ()
    is_copy_wrong: bool = False
    verified: Verified | None = None


class JournalState(Value, frozen=True):
    """A journal as read in this boot: its newest valid record, and the runs that may be trusted."""

    record: Record
    runs: list[Run]

    @property
    def done(self) -> RangeSet:
        """The bytes that may be trusted, as a set."""
        return RangeSet((start, end) for start, end, _ in self.runs)


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Record)


def read_state(data: bytes, boot: str) -> JournalState | None:
    """Read a journal's bytes in this boot; None if neither slot is valid."""
    slots = [data[:_SLOT_BYTES], data[_SLOT_BYTES : 2 * _SLOT_BYTES]]
    found = [one for slot in slots if (one := _read_slot(slot)) is not None]
    if not found:
        return None
    record = max(found, key=lambda one: one[0])[1]
    try:
        runs = decode_runs(record.runs, only_synced=not boot or record.boot != boot)
    except ValueError:
        return None
    return JournalState(record, runs)


def _read_slot(slot: bytes) -> tuple[int, Record] | None:
    numbers = slot[len(_MAGIC) : _HEAD_BYTES]
    if not slot.startswith(_MAGIC) or len(numbers) < 16:
        return None
    number, length, checksum = (int.from_bytes(numbers[a:b], "little") for a, b in ((0, 8), (8, 12), (12, 16)))
    body = slot[_HEAD_BYTES : _HEAD_BYTES + length]
    if len(body) != length or zlib.crc32(body, zlib.crc32(numbers[:12])) != checksum:
        return None
    try:
        return number, _decoder.decode(body)
    except msgspec.MsgspecError:
        return None


class Journal:
    """A journal that is being written; for one thread at a time.

    Attributes:
        fd: Its descriptor; -1 while it is not open.
        donors: For the next records, as is `is_copy_wrong`.
    """

    def __init__(self, path: Path, parts: tuple[PartIdentity, ...]) -> None:
        self.path = path
        self.fd = -1
        self.donors: tuple[str, ...] = ()
        self.is_copy_wrong = False
        self._parts = parts
        self._boot = boot_id()
        self._number = 0

    @staticmethod
    def read(path: Path) -> JournalState | None:
        """The state of the journal at a path; None without one of this format that can be read."""
        data = read_small(path)
        return None if data is None else read_state(data, boot_id())

    def begin(self, pieces: Pieces) -> None:
        """Create the journal with this state, replacing any other; raises `OSError` or `StorageError`."""
        fresh = self.path.with_name(self.path.name + ".new")
        fd = create_beside(fresh)
        self.close()
        self.fd, self._number = fd, 0
        try:
            self.record(pieces)
            sync_data(fd)
            fresh.replace(self.path)
        except OSError:
            self.close()
            raise

    def record(self, pieces: Pieces, verified: Verified | None = None) -> None:
        """Write a record with this state; raises `OSError`."""
        runs = encode_runs(pieces, _RUNS_BYTES)
        body = _encoder.encode(Record(self._boot, self._parts, runs, self.donors[:8], self.is_copy_wrong, verified))
        numbers = (self._number + 1).to_bytes(8, "little") + len(body).to_bytes(4, "little")
        checksum = zlib.crc32(body, zlib.crc32(numbers)).to_bytes(4, "little")
        write_all(self.fd, _MAGIC + numbers + checksum + body, (self._number + 1) % 2 * _SLOT_BYTES)
        self._number += 1

    def close(self) -> None:
        """Close the file, without deleting it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def present_at(target: Path, parts: tuple[PartIdentity, ...], *, is_replaced: bool = False) -> RangeSet:
    """The bytes on the disk of a file of known size: all of it, or those that a resume would keep; reads no content.

    With `is_replaced`, a file at the target is not the wanted one.
    """
    size_bytes = parts[-1].offset_bytes + parts[-1].size_bytes
    found, part = None if is_replaced else status_of(target), status_of(part_path(target))
    if found is not None and found.st_size == size_bytes:
        return RangeSet([(0, size_bytes)])
    state = Journal.read(journal_path(target))
    is_resumed = part is not None and stat.S_ISREG(part.st_mode) and state is not None and state.record.parts == parts
    return state.done if is_resumed and state is not None else RangeSet()
