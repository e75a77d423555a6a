"""The check of a target before its first byte: is the file there already, is another process at it, does this machine have an identical one.

Meant for a thread of its own for each target, since hashing and waiting take long; it tells how far it is by
plain attributes of the `TargetCheck`.
"""

import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gglib_nb.domain.download import PlannedFile, StoredFile
from gglib_nb.engine.storage.byte_ranges import MIB
from gglib_nb.engine.storage.digest import FrontDigest
from gglib_nb.engine.storage.donors import DonorFile
from gglib_nb.engine.storage.filesystem import new_buffer, storage_error
from gglib_nb.engine.storage.gguf_facts import read_facts
from gglib_nb.engine.storage.identical_files import identical_candidates
from gglib_nb.engine.storage.journal import Journal, PartIdentity
from gglib_nb.engine.storage.lease import Lease
from gglib_nb.engine.storage.paths import check_way, journal_path
from gglib_nb.engine.storage.salvage import salvage
from gglib_nb.errors import GglibError, StorageError
from gglib_nb.system import sync_folder

_LOOK_S: Final = 0.5


class StoppedError(Exception):
    """The transfer was stopped meanwhile."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came out.

    Attributes:
        stored: The file is in its place; None: it has to be fetched, and the lease is ours.
        is_linked: It was linked from elsewhere.
        donors: Files of this machine that may hold some of its tensors.
    """

    stored: StoredFile | None
    is_linked: bool = False
    donors: tuple[DonorFile, ...] = ()


class TargetCheck:
    """The check of one target; it ends with the file in its place, or with the lease.

    Attributes:
        lease: Of the partial file; renewed by the coordinator while `has_lease`.
        has_lease: Whether it is ours.
        hashed_bytes: How far the check of a file that lies here is; None while none is checked.
        owner_bytes: How far the process is that has the lease; None while nobody else has it.
    """

    def __init__(
        self,
        files: tuple[PlannedFile, ...],
        *,
        force: bool,
        link_folders: tuple[str, ...],
        lease: Lease,
        stop: threading.Event,
        replaces: bool = False,
        find_donors: Callable[[], tuple[DonorFile, ...]] = tuple,
    ) -> None:
        """Nothing is looked at yet.

        Args:
            files: The parts of the target.
            force: Neither a file that stands there nor an identical one elsewhere will do.
            link_folders: Where an identical one may lie.
            lease: Of the partial file.
            stop: Ends it.
            replaces: Another file at the target is no error: it will be replaced.
            find_donors: Looks for files that may hold some of its tensors.
        """
        self.files = files
        self.target = Path(files[0].target)
        self.lease = lease
        self.has_lease = False
        self.hashed_bytes: int | None = None
        self.owner_bytes: int | None = None
        self._force = force
        self._link_folders = link_folders
        self._stop = stop
        self._replaces = replaces
        self._find_donors = find_donors

    def outcome(self) -> CheckResult | GglibError | StoppedError:
        """Do it; takes as long as hashing and waiting take."""
        try:
            return self._run()
        except (GglibError, StoppedError) as error:
            return error
        except OSError as error:
            return storage_error(error, self.target)

    def _run(self) -> CheckResult:
        if (present := self._present()) is not None:
            return CheckResult(present)
        check_way(self.target)
        self.target.parent.mkdir(parents=True, exist_ok=True)
        if self._wait_for_lease() and (present := self._present()) is not None:
            self.lease.release()
            return CheckResult(present)
        if not self._force and (linked := self._linked()) is not None:
            self.lease.release()
            return CheckResult(linked, is_linked=True)
        return CheckResult(None, donors=() if self._salvaged() else self._find_donors())

    def _wait_for_lease(self) -> bool:
        """Take the lease; whether somebody else had it meanwhile."""
        has_waited = False
        while (owner := self.lease.try_acquire()) is not None:
            # Of one that cannot be read nobody knows whose it is; it is free in a moment.
            self.owner_bytes = owner.downloaded_bytes if owner.owner else None
            has_waited = True
            if self._stop.wait(_LOOK_S):
                raise StoppedError
        self.has_lease = True
        self.owner_bytes = None
        if self._stop.is_set():
            self.lease.release()
            raise StoppedError
        return has_waited

    def _present(self) -> StoredFile | None:
        """The file that stands at the target, if it is the one that is wanted."""
        try:
            found = self.target.stat()
        except FileNotFoundError:
            return None
        if self._force or self._is_known_wrong(found):
            return None
        if not stat.S_ISREG(found.st_mode):
            raise StorageError(f"{self.target} is not a file; move it away, then retry.")
        if self._is_known(found):
            sha256 = self.files[0].sha256 if len(self.files) == 1 else None
            return self._stored(found, sha256, None, is_verified=True)
        expected = self._expected_size()
        if expected is None or found.st_size == expected:
            digest = self._hash(self.target)
            if self._matches(digest):
                is_verified = all(file.sha256 is not None for file in self.files)
                return self._stored(found, digest.whole, digest, is_verified=is_verified)
        if self._replaces:
            return None
        raise StorageError(
            f"Another file stands at {self.target}; move it away, or queue again with force to replace it."
        )

    def _is_known_wrong(self, found: os.stat_result) -> bool:
        """Whether the catalog has seen this very file and found it wrong."""
        return self.files[0].wrong_ranges is not None and found.st_mtime_ns == self.files[0].known_mtime_ns

    def _salvaged(self) -> bool:
        """Begin the partial file with what is right of a damaged target; whether there was one."""
        wrong = self.files[0].wrong_ranges
        try:
            is_damaged = self._is_known_wrong(self.target.stat())
        except FileNotFoundError:
            return False
        if is_damaged and wrong and not self._force:
            # (Which bytes are wrong is known by the digest, so the commit does not count.)
            parts = tuple(PartIdentity.of(file, file.size_bytes, "") for file in self.files)
            salvage(self.target, parts, wrong, self._stop)
            if self._stop.is_set():
                self.lease.release()
                raise StoppedError
        return is_damaged

    def _is_known(self, found: os.stat_result) -> bool:
        """Whether the catalog or a journal has seen this very file verified."""
        if found.st_size != self._expected_size():
            return False
        if found.st_mtime_ns == self.files[0].known_mtime_ns:
            return True
        state = Journal.read(journal_path(self.target))
        if state is None or state.verified is None:
            return False
        is_untouched = (state.verified.size_bytes, state.verified.mtime_ns) == (found.st_size, found.st_mtime_ns)
        digests = [part.digest for part in state.parts]
        return is_untouched and digests == [file.sha256 for file in self.files]

    def _expected_size(self) -> int | None:
        last = self.files[-1]
        return None if last.size_bytes is None else last.offset_bytes + last.size_bytes

    def _hash(self, path: Path) -> FrontDigest:
        """Hash a file, part by part; tells how far it is."""
        ends = [file.offset_bytes for file in self.files[1:]] + [self._expected_size() or path.stat().st_size]
        digest = FrontDigest([(file.offset_bytes, end) for file, end in zip(self.files, ends, strict=True)])
        buffer = new_buffer(MIB)
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                if self._stop.is_set():
                    raise StoppedError
                digest.feed(buffer[:count])
                self.hashed_bytes = digest.front
        self.hashed_bytes = None
        return digest

    def _matches(self, digest: FrontDigest) -> bool:
        pairs = zip(digest.digests, self.files, strict=False)
        return digest.is_complete and all(file.sha256 in (None, actual) for actual, file in pairs)

    def _stored(
        self, found: os.stat_result, sha256: str | None, digest: FrontDigest | None, *, is_verified: bool
    ) -> StoredFile:
        """The file as it stands there; `digest` where it was hashed just now."""
        return StoredFile(
            target=str(self.target),
            path_in_repo=self.files[0].path_in_repo,
            kind=self.files[0].kind,
            size_bytes=found.st_size,
            sha256=sha256,
            is_verified=is_verified,
            mtime_ns=found.st_mtime_ns,
            was_present=True,
            facts=read_facts(self.target),
            verified_at_s=time.time() if digest is not None and is_verified else None,
            block_digests="" if digest is None else digest.block_digests,
        )

    def _linked(self) -> StoredFile | None:
        """The target as a link to an identical file; None where there is none or it cannot be linked."""
        file = self.files[0]
        if len(self.files) > 1 or file.sha256 is None or not file.size_bytes:
            return None
        for candidate in identical_candidates(self._link_folders, self.target, file.size_bytes, file.sha256):
            digest = self._hash(candidate)
            if self._matches(digest) and self._link(candidate):
                return self._stored(self.target.stat(), file.sha256, digest, is_verified=True)
        return None

    def _link(self, candidate: Path) -> bool:
        try:
            self.target.hardlink_to(candidate)
        except OSError:
            # Another filesystem, or one without links: the download will do.
            return False
        sync_folder(self.target.parent)
        return True
