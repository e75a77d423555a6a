"""Files on this machine: the file at the target, identical files elsewhere, leftovers of earlier runs, header facts.

A file that is read only to save bytes can never make a download fail: an unreadable one is left alone.
"""

import contextlib
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from glob import escape
from pathlib import Path
from typing import Final

from msgspec import Struct

from gglib_nb.domain.companions import kind_of_header
from gglib_nb.domain.download import Facts, PlannedFile, StoredFile, not_one_set, refuse_stray_shard, shards_of_one_set
from gglib_nb.domain.gguf import read_header, read_tensors
from gglib_nb.domain.gguf_header import header_facts
from gglib_nb.domain.gguf_reuse import Copy, ReuseLimits
from gglib_nb.domain.library import Leftover
from gglib_nb.engine import disk
from gglib_nb.engine.digest import FrontDigest, hash_file
from gglib_nb.engine.journal import Journal, PartIdentity, Verified, runs_at
from gglib_nb.engine.lease import Lease, delete_unowned, read_lease
from gglib_nb.engine.partial import StoppedError
from gglib_nb.engine.pieces import WRITTEN, Pieces
from gglib_nb.engine.protocol import StartTransfer
from gglib_nb.engine.reuse import Comparison, CopySource, compare_tensors, find_donors, known_copies
from gglib_nb.errors import GgufError, StorageError
from gglib_nb.system import allocated_bytes, matching, read_at, sync_folder

_LOOK_S: Final = 0.5


class TargetCheck(Struct, eq=False):
    """The check of one target before the first byte; it ends with the complete file, or with the lease.

    The transfer renews the lease while `has_lease`, and reads the progress.
    """

    files: tuple[PlannedFile, ...]  # the parts of the target, with all facts that the hub has stated
    command: StartTransfer
    lease: Lease
    limits: ReuseLimits
    known_folders: tuple[str, ...]  # if none of them exists, their disk is not mounted
    link_folders: tuple[str, ...]  # may have identical files
    stop: threading.Event
    has_lease: bool = False
    hashed_bytes: int | None = None  # of a file on this machine, so far; None while none is hashed
    owner_bytes: int | None = None  # what another owner of the lease has; None without one
    is_linked: bool = False  # the file is a link to an identical one
    comparison: Comparison | None = None  # with files that may have some of its bytes, if it has to be fetched

    def run(self) -> StoredFile | None:
        """The file, complete at its target; or None: it has to be fetched, and this process holds the lease.

        Runs on a thread of its own, because hashing and waiting take long. Raises `StoppedError`, `StorageError` if the
        target's place cannot be used, or `OSError`.
        """
        before = disk.status_of(self._target)
        if (present := self._present()) is not None:
            return present
        if self.known_folders and not any(map(os.path.lexists, self.known_folders)):  # nothing may be created there
            raise StorageError(
                f"The folder {self.known_folders[0]} does not exist. If its disk is not mounted, mount it, then retry. "
                "If you deleted it, queue the download again."
            )
        disk.check_way(self._target)
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._wait_for_lease()
        found = disk.status_of(self._target)
        is_new = found is not None and (before is None or disk.identity(before) != disk.identity(found))
        if is_new and (present := self._present()) is not None:  # another process stored it before it ended its lease
            return present
        if self.command.force:
            return None
        if (linked := self._linked()) is not None:
            self.is_linked = True
            return linked
        if found is not None and self._is_known_wrong(found):
            self.comparison = self._with_damaged(found)
        else:
            self.comparison = self.comparison or self._with_donors()
        return None

    @property
    def _target(self) -> Path:
        return Path(self.files[0].target)

    @property
    def _size_bytes(self) -> int | None:
        last = self.files[-1]
        return None if last.size_bytes is None else last.offset_bytes + last.size_bytes

    @property
    def _is_stated(self) -> bool:
        return all(file.sha256 is not None for file in self.files)

    def _wait_for_lease(self) -> None:
        while (owner := self.lease.try_acquire()) is not None:
            # An unreadable lease has no known owner; it is free in a moment.
            self.owner_bytes = owner.downloaded_bytes if owner.owner else None
            if self.stop.wait(_LOOK_S):
                raise StoppedError
        self.has_lease, self.owner_bytes = True, None

    # The file at the target ------------------------------------------------------------------------------------------

    def _present(self) -> StoredFile | None:
        try:
            found = self._target.stat()
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            raise StorageError(f"{self._target} is not a file. Move it, then retry.")
        verified = self._journaled(found)
        if self._is_known_wrong(found) or (self.command.force and not (verified and verified.has_replaced)):
            return None
        is_recorded = verified is not None or found.st_mtime_ns == self.files[0].known_mtime_ns
        if is_recorded and found.st_size == self._size_bytes:
            known_sha256 = self.files[0].sha256 if len(self.files) == 1 else None
            return self._stored(found, known_sha256 if verified is None else verified.sha256)
        advice = " Make it readable or move it, or download again with --force to replace it."
        refusal = disk.storage_errors(self._target, "cannot be read", advice)
        with contextlib.suppress(OSError) if self.command.replaces else refusal:
            if self._size_bytes in (None, found.st_size) and (digest := self._digest_if_right(self._target, found)):
                return self._stored(found, digest.whole, digest)
        if self.command.replaces:
            return None
        raise StorageError(
            f"Another file is stored at {self._target}. Move it, or download again with --force to replace it."
        )

    def _is_known_wrong(self, found: os.stat_result) -> bool:
        """Whether the catalog records this very file as wrong."""
        return self.files[0].wrong_ranges is not None and found.st_mtime_ns == self.files[0].known_mtime_ns

    def _journaled(self, found: os.stat_result) -> Verified | None:
        """What the journal of an interrupted attempt states about this very file; None if it was not verified."""
        state = Journal.read(disk.journal_path(self._target))
        if state is None or (verified := state.record.verified) is None:
            return None
        is_untouched = (verified.size_bytes, verified.mtime_ns) == (found.st_size, found.st_mtime_ns)
        is_it = [part.digest for part in state.record.parts] == [file.sha256 for file in self.files]
        return verified if is_untouched and is_it else None

    def _digest_if_right(self, path: Path, found: os.stat_result) -> FrontDigest | None:
        """The digest of a file if it is the wanted one, and unchanged since `found`, its status. Raises `OSError`."""
        digest = FrontDigest([*(file.offset_bytes for file in self.files[1:]), found.st_size])
        try:
            with disk.opened(path) as fd:
                if not hash_file(fd, digest, partial(setattr, self, "hashed_bytes"), self.stop):
                    raise StoppedError
                may_be_it = self._is_stated or may_be_gguf(self._target, read_at(fd, 4, 0))
        finally:
            self.hashed_bytes = None
        pairs = zip(digest.digests, self.files, strict=False)
        is_right = may_be_it and digest.is_complete and all(file.sha256 in (None, actual) for actual, file in pairs)
        now = disk.status_of(path)
        return digest if is_right and now is not None and disk.identity(now) == disk.identity(found) else None

    def _stored(self, found: os.stat_result, sha256: str | None, digest: FrontDigest | None = None) -> StoredFile:
        """The file as it is on the disk; `digest` if it was hashed just now, else it is known to be right."""
        first = self.files[0]
        return StoredFile(
            target=first.target,
            path_in_repo=first.path_in_repo,
            kind=first.kind,
            size_bytes=found.st_size,
            sha256=sha256,
            is_verified=self._is_stated,
            mtime_ns=found.st_mtime_ns,
            was_present=True,
            facts=read_facts(self._target),
            verified_at_s=time.time() if digest is not None and self._is_stated else None,
            block_digests="" if digest is None else digest.block_digests,
        )

    # Files that save bytes -------------------------------------------------------------------------------------------

    def _linked(self) -> StoredFile | None:
        """The target as a link to an identical file; None if there is none or it cannot be linked, perhaps copied."""
        file = self.files[0]
        if len(self.files) > 1 or file.sha256 is None or not file.size_bytes or os.path.lexists(self._target):
            return None
        disk.rescue_renamed(self._target)  # deletes the link of a process that was killed here
        lease = disk.lease_path(self._target)
        link = lease.with_name(f"{lease.name}.{self.lease.owner}")
        for candidate in _identical_candidates(self.link_folders, self._target, file.size_bytes, file.sha256):
            with contextlib.suppress(OSError), contextlib.ExitStack() as cleanup:
                try:
                    link.hardlink_to(candidate)
                except OSError:  # another user's file, another disk, or a filesystem without links: it is not hashed
                    if file.sha256 in candidate.name:  # a blob, which is copied; the digest checks the copy
                        whole = (Copy(0, 0, 0, file.size_bytes),)
                        self.comparison = _known(candidate, self._target.name, candidate.stat(), whole)
                    continue
                cleanup.callback(link.unlink, missing_ok=True)
                found = link.stat()
                if (digest := self._digest_if_right(link, found)) is not None:
                    self._target.hardlink_to(link)
                    sync_folder(self._target.parent)
                    return self._stored(found, digest.whole, digest)
        return None

    def _with_damaged(self, found: os.stat_result) -> Comparison | None:
        """With the damaged file at the target, if its right ranges are known; the digest checks them."""
        wrong, size_bytes = self.files[0].wrong_ranges, min(self._size_bytes or 0, found.st_size)
        right = Pieces(size_bytes, [(0, size_bytes, WRITTEN)])
        for start, end in wrong or ():
            right.forget(start, end)
        copies = tuple(Copy(0, start, start, end - start) for start, end in right.present())
        if not wrong or not copies:
            return None
        return _known(self._target, "the damaged file", found, copies)

    def _with_donors(self) -> Comparison | None:
        """With files that may have tensors of the target; None for a byte split, or if no digest verifies the copy."""
        target, command, least_bytes = self._target, self.command, self.limits.least_gain_bytes
        sha256, size_bytes = self.files[0].sha256, self._size_bytes or 0
        if len(self.files) > 1 or sha256 is None or size_bytes < least_bytes or target.suffix.lower() != ".gguf":
            return None
        donors = find_donors(target, command.repo_id, command.donors, least_bytes, self.stop)
        steps = compare_tensors(disk.part_path(target), size_bytes, sha256, donors, self.limits)
        return Comparison(donors, steps) if donors else None


def _known(path: Path, name: str, found: os.stat_result, copies: tuple[Copy, ...]) -> Comparison:
    """A comparison with a file of this status, from which these bytes can be copied; `name` is shown."""
    return Comparison((CopySource(path, name, disk.identity(found)),), known_copies(copies))


def _identical_candidates(folders: tuple[str, ...], target: Path, size_bytes: int, sha256: str) -> Iterator[Path]:
    """Files that may have the same bytes: blobs of caches and of Ollama by their name, others by name and size.

    Links are followed, because several repositories of a cache share a store. Deeper folders are not searched.
    """
    name = escape(target.name)

    def search(folder: Path) -> Iterator[Path]:
        paths = [repository / "blobs" / sha256 for repository in matching(folder, "models--*")]
        paths.append(folder / "blobs" / f"sha256-{sha256}")  # Ollama
        paths += [path for pattern in (f"*/*/{name}", f"*/*/*/{name}") for path in matching(folder, pattern)]
        for path in paths:
            with contextlib.suppress(OSError):
                # For a loop of links, `Path.resolve` raises another error.
                found = Path(os.path.realpath(path, strict=True))
                with disk.opened(found) as fd:  # read within the time too: a disk that hangs may still state its status
                    is_candidate = os.fstat(fd).st_size == size_bytes and read_at(fd, 1, 0) != b""
                if is_candidate and target not in (path, found):
                    yield found

    yield from disk.found_in_time({folder: partial(search, Path(folder)) for folder in folders})


# --- Headers ----------------------------------------------------------------------------------------------------------


def may_be_gguf(path: Path, head: bytes) -> bool:
    """Whether a file that begins like this may have this path: one named `.gguf` has to begin like a GGUF file."""
    return path.suffix.lower() != ".gguf" or head.startswith(b"GGUF")


def read_facts(path: Path, reach: int | None = None, shard: str | None = None) -> Facts:
    """The header's facts of a file, of which `reach` bytes (None: all) have arrived; empty if it cannot be read.

    Raises:
        IncompleteShardSetError: Its number differs from that in `shard`, its path: no program could load the set.
    """
    try:
        with disk.reading(path, reach) as (read, size_bytes):
            header = read_header(read, size_bytes)
    except (OSError, GgufError):
        return {}
    facts = header_facts(header)
    if shard is not None:
        refuse_stray_shard(shard, facts)
    kind = kind_of_header(header)
    is_model = kind in (None, "model")
    return facts | ({} if is_model else {"companion_kind": kind})


def check_in_place(files: Sequence[StoredFile]) -> None:
    """Check that each file is still where it was stored; raises `StorageError`."""
    for file in files:
        if (found := disk.status_of(Path(file.target))) is None or found.st_size != file.size_bytes:
            raise StorageError(
                f"{file.target} was deleted or changed before the download ended. Retry to download it again."
            )


def check_split_set(files: Sequence[StoredFile]) -> None:
    """Check by headers that the shards are one split model: `split.*`, architecture, and names of the tensors.

    Raises:
        IncompleteShardSetError: One is missing, or belongs to another set, or no program could load the set.
    """
    names: list[str] = []
    for shard in shards_of_one_set(files):
        with contextlib.suppress(OSError), disk.reading(Path(shard.target)) as (read, size_bytes):
            try:
                names += (tensor.name for tensor in read_tensors(read, size_bytes).tensors)
            except GgufError:
                raise not_one_set() from None
    if len(set(names)) < len(names):
        raise not_one_set()


# --- Also for the kernel: how much of each file is on the disk, and leftovers -----------------------------------------


def present_by_file(files: Sequence[PlannedFile], commit_sha: str) -> tuple[int, ...]:
    """How many bytes of each file of a commit are on the disk, by sizes and journals: those that a download would keep.

    A file of unknown size counts as nothing.
    """
    parts: dict[str, list[PlannedFile]] = {}
    for file in files:
        parts.setdefault(file.target, []).append(file)
    there = dict.fromkeys(parts, Pieces(0))
    for target, each in parts.items():
        if all(part.size_bytes is not None for part in each):
            wanted = tuple(PartIdentity.of(part, part.size_bytes, commit_sha) for part in each)
            there[target] = Pieces(None, runs_at(Path(target), wanted))
    ends = ((file, file.offset_bytes + (file.size_bytes or 0)) for file in files)
    return tuple(there[file.target].present_within(file.offset_bytes, end) for file, end in ends)


# `<owner>/<repo>/` and two folders below; without a bound a home folder would be walked.
_PATTERNS: Final = ("*/*/*.part*", "*/*/*/*.part*", "*/*/*/*/*.part*")


def leftovers(models_directory: Path) -> list[Leftover]:
    """Our partial files below a models folder, by path. May raise `StorageError`."""
    try:
        os.scandir(models_directory).close()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(
            f"The models folder {models_directory} cannot be read ({error.strerror or error}); check that its disk is "
            "connected."
        ) from error
    found = (path for pattern in _PATTERNS for path in matching(models_directory.absolute(), pattern))
    targets = {path.with_name(path.name.rpartition(".part")[0] or path.name) for path in found}
    return sorted(filter(None, map(_leftover, targets)), key=lambda one: one.target)


def discard_leftovers(targets: Iterable[str]) -> frozenset[str]:
    """Delete the partial files of these targets, except those in use; returns the targets of which nothing is left."""
    targets = [target for target in targets if Path(target).name]  # `/` and an empty text name no file
    for target in targets:
        with contextlib.suppress(OSError):
            delete_unowned(Path(target))
    return frozenset(target for target in targets if not os.path.lexists(disk.part_path(Path(target))))


def _leftover(target: Path) -> Leftover | None:
    part = next(filter(os.path.lexists, (disk.part_path(target), *disk.renamed_parts(target))), disk.part_path(target))
    found = disk.status_of(part)
    if found is None or not disk.has_journal_or_lease(target):
        return None
    state, lease = Journal.read(disk.journal_path(target)), read_lease(disk.lease_path(target))
    if state is not None and not all(part.size_bytes for part in state.record.parts[-1:]):
        state = None  # of a file of unknown size, nothing is continued
    return Leftover(
        target=str(target),
        size_bytes=None if state is None else sum(one.size_bytes for one in state.record.parts),
        downloaded_bytes=0 if state is None else state.pieces.present_bytes,
        disk_bytes=allocated_bytes(part),
        modified_s=found.st_mtime,
        is_in_use=lease is not None and not lease.process.is_gone(),
    )
