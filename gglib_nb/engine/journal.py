"""A record of a partial file's contents that survives `kill -9` and a power cut.

The journal is a file of two slots beside the partial file. Every record is complete (the file's identity, the bytes on
the disk) and is written, with a number and a CRC-32, to the slot that does not hold the newest one: a record that a
full disk or a kill truncates damages only its own slot. The file never grows. The order of writes and syncs, and why it
is sufficient:

* A byte is written to the partial file, then its range is recorded. When the engine is killed, the system keeps both,
  and at most the bytes since the last record (half a second) are fetched again.
* A power cut may keep the record and lose the file's bytes. So the partial file is synced from time to time, and only
  ranges written before are recorded as synced. In the boot whose id is in the record all its ranges are trusted, in
  another one (or on another machine, or if the id is unknown) only the synced ones.
* A new journal is created as a separate file, synced and renamed: the old or the new one always exists, and a writer
  that lost its lease still writes into the old one, which no process reads.
* At the end the partial file is synced, then `verified` is recorded, then the file is renamed. A file that matches its
  journal's `verified` need not be hashed again.

The journal never replaces the digest, which is always computed from the bytes on the disk. Without a readable journal
of this format, no byte of the partial file is trusted.
"""

import contextlib
import os
import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import msgspec

from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.values import Value
from gglib_nb.engine.disk import create_beside, journal_path, part_path, read_small, status_of, write_all
from gglib_nb.engine.pieces import WRITTEN, Pieces, Run, decode_runs, encode_runs
from gglib_nb.system import boot_id, sync_data

_SLOT_BYTES: Final = 512 * 1024  # a file joined from hundreds of parts needs many; the rest of a slot is a hole
_BLOCK_BYTES: Final = 4096
_EARLIER_SLOT_BYTES: Final = 128 * 1024  # of an earlier version, for fewer parts
_RUNS_BYTES: Final = 96 * 1024  # five thousand runs; a file of two thousand copied tensors has fewer
_MAGIC: Final = b"gglib journal 2\n"
_NUMBERS: Final = struct.Struct("<QI")  # of the record, and its length in bytes
_CHECKSUM_BYTES: Final = 4


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
    has_replaced: bool = False  # whether it may have replaced another file


class Record(msgspec.Struct):
    """The contents of one record."""

    boot: str  # the id of the boot in which it was written
    parts: tuple[PartIdentity, ...]  # the identity of the file
    runs: bytes = b""  # the bytes on the disk (`pieces.encode_runs`)
    donors: tuple[str, ...] = ()  # names of the files that bytes were copied from, the one with most bytes first
    is_copy_wrong: bool = False  # the digest was wrong with copied bytes: nothing more is copied
    verified: Verified | None = None  # once the digest is verified
    versions: dict[str, str] = {}  # by path in the repository: the version of its bytes, if no digest was known


class JournalState(Value, frozen=True):
    """A journal as read in this boot: its newest valid record, and the runs that may be trusted."""

    record: Record
    runs: list[Run]

    @property
    def pieces(self) -> Pieces:
        """The bytes that may be trusted."""
        return Pieces(None, self.runs)


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Record)


def read_state(data: bytes, boot: str) -> JournalState | None:
    """Read a journal's bytes in this boot; None if neither slot is valid."""
    slots = (_read_slot(data[at:]) for at in (0, _EARLIER_SLOT_BYTES, _SLOT_BYTES))
    found = max(filter(None, slots), key=lambda one: one[0], default=None)
    with contextlib.suppress(ValueError):
        if found is not None:
            record = found[1]
            return JournalState(record, decode_runs(record.runs, only_synced=not boot or record.boot != boot))
    return None


def _read_slot(slot: bytes) -> tuple[int, Record] | None:
    numbers, rest = slot[len(_MAGIC) :][: _NUMBERS.size], slot[len(_MAGIC) + _NUMBERS.size :]
    if slot.startswith(_MAGIC) and len(numbers) == _NUMBERS.size:
        number, length = _NUMBERS.unpack(numbers)
        body = rest[_CHECKSUM_BYTES:][:length]
        if len(body) == length and rest.startswith(_checksum(numbers, body)):
            with contextlib.suppress(msgspec.MsgspecError):
                return number, _decoder.decode(body)
    return None


def _write(fd: int, number: int, body: bytes) -> None:
    numbers = _NUMBERS.pack(number, len(body))
    write_all(fd, _MAGIC + numbers + _checksum(numbers, body) + body, number % 2 * _SLOT_BYTES)


def _checksum(numbers: bytes, body: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(numbers)).to_bytes(_CHECKSUM_BYTES, "little")


class Journal:
    """A journal that is being written; for one thread at a time."""

    def __init__(self, path: Path, parts: tuple[PartIdentity, ...]) -> None:
        self.path = path
        self.fd = -1  # while it is not open
        self.next = Record(boot_id(), parts)  # but for the bytes; connections add versions
        self._number = 0
        self._newest = b""

    @staticmethod
    def read(path: Path, *, must_know: bool = False) -> JournalState | None:
        """The state of the journal at a path; None: none of this format is readable; `must_know` as in `read_small`."""
        return read_state(read_small(path, must_know=must_know) or b"", boot_id())

    def begin(self, pieces: Pieces, check_owner: Callable[[], None] = lambda: None) -> None:
        """Create the journal with this state, replacing any other; raises `OSError` or `StorageError`.

        `check_owner`, which may raise, is called before each change, because writing may take long.
        """
        check_owner()
        fresh, body = self.path.with_name(self.path.name + ".new"), self._encoded(pieces)
        fd = create_beside(fresh)
        try:
            _write(fd, 1, body)
            write_all(fd, bytes(_BLOCK_BYTES), 0)  # the other slot also has a block, should the disk fill up
            sync_data(fd)
            check_owner()
            self.close()  # if the name is refused, a record in the old file would be lost without notice
            fresh.replace(self.path)
        except Exception:
            os.close(fd)
            raise
        self.fd, self._number, self._newest = fd, 1, body

    def record(self, pieces: Pieces, verified: Verified | None = None) -> None:
        """Write a record with this state, unless the newest one is the same; raises `OSError`."""
        if self.fd < 0:
            self.begin(pieces)
        if (body := self._encoded(pieces, verified)) != self._newest:
            _write(self.fd, self._number + 1, body)
            # Not after a failed write: the next one must not damage the other slot too.
            self._number, self._newest = self._number + 1, body

    def _encoded(self, pieces: Pieces, verified: Verified | None = None) -> bytes:
        self.next.runs, self.next.verified = encode_runs(pieces, _RUNS_BYTES), verified
        return _encoder.encode(self.next)

    def close(self) -> None:
        """Close the file, without deleting it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def runs_at(target: Path, parts: tuple[PartIdentity, ...], *, is_replaced: bool = False) -> list[Run]:
    """The bytes on the disk of a file of known size: all of it, or those that a resume would keep; reads no content.

    With `is_replaced`, a file at the target is not the wanted one.
    """
    size_bytes = parts[-1].offset_bytes + parts[-1].size_bytes
    found, part = None if is_replaced else status_of(target), status_of(part_path(target))
    if found is not None and found.st_size == size_bytes:
        return [(0, size_bytes, WRITTEN)]
    if part is None or not stat.S_ISREG(part.st_mode):
        return []
    state = Journal.read(journal_path(target))
    return state.runs if state is not None and state.record.parts == parts else []
