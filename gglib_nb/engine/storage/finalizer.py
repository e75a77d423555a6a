"""The last step of a file: bytes to the disk, name to the final one, folder to the disk.

Meant for a thread of its own, since an fsync may take long. A stop and a rename meet at the `RenameGate`: whichever comes
first wins, and each knows which it was.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gglib_nb.domain.download import StoredFile
from gglib_nb.engine.storage.filesystem import storage_error
from gglib_nb.engine.storage.gguf_facts import read_facts
from gglib_nb.engine.storage.journal import Verified
from gglib_nb.engine.storage.lease import Lease, LeaseLostError
from gglib_nb.engine.storage.partial_file import PartialFile
from gglib_nb.errors import StorageError, TransferError
from gglib_nb.system import sync_folder

# The file; what went wrong; None where the gate was closed.
FinalizeOutcome = StoredFile | TransferError | LeaseLostError | None


class RenameGate:
    """Lets renames through until it is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_closed = False

    def close(self) -> None:
        """No rename begins any more; one that has begun is over when this returns."""
        with self._lock:
            self._is_closed = True

    def pass_through(self, action: Callable[[], None]) -> bool:
        """Do it unless the gate is closed; whether it was done."""
        with self._lock:
            if not self._is_closed:
                action()
            return not self._is_closed


class Finalizer:
    """The last step of one target; the partial file is its own now, and it closes it.

    Attributes:
        is_renamed: Whether the file has its final name; certain once the gate is closed.
    """

    def __init__(
        self, partial: PartialFile, lease: Lease, stored: StoredFile, gate: RenameGate, *, may_replace: bool
    ) -> None:
        """Take over.

        Args:
            partial: Complete and found right.
            lease: Ours; looked at once more before the rename.
            stored: What it will be, but for its modification time and facts.
            gate: Of the transfer.
            may_replace: Whether another file may stand at the target.
        """
        self.is_renamed = False
        self._partial = partial
        self._lease = lease
        self._stored = stored
        self._gate = gate
        self._may_replace = may_replace

    def outcome(self) -> FinalizeOutcome:
        """Do it; takes as long as the disk takes."""
        target = Path(self._stored.target)
        try:
            return self._run(target)
        except (TransferError, LeaseLostError) as error:
            return error
        except OSError as error:
            return storage_error(error, target)
        finally:
            self._partial.close(is_ours=False)

    def _run(self, target: Path) -> StoredFile | None:
        self._partial.sync()
        self._partial.check_folder()
        if not self._lease.is_ours() or not self._partial.is_in_place:
            raise LeaseLostError("another process took the file over, or somebody took it away")
        mtime_ns = self._partial.path.stat().st_mtime_ns
        self._partial.record_verified(Verified(self._stored.size_bytes, self._stored.sha256 or "", mtime_ns))
        if not self._may_replace and target.exists():
            raise StorageError(f"Another file appeared at {target}; move it away, then retry.")
        if not self._gate.pass_through(lambda: self._rename(target)):
            return None
        sync_folder(target.parent)
        return replace(self._stored, mtime_ns=mtime_ns, facts=read_facts(target))

    def _rename(self, target: Path) -> None:
        self._partial.path.replace(target)
        self.is_renamed = True
