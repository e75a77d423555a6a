"""One attempt: the coordinator's thread, its turns, and the event that ends it.

In each turn it has the coordinator advance; ten times a second it has it look at the connections and says how far it
is; in between it makes the calls that others put into its mailbox: connection threads (a range ended), threads that
resolve, check, sync and finalize, the hasher, the command loop. It never waits for the network, an fsync of a large
file or a long read.
"""

import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final

from gglib_nb.domain.secrets import redacted
from gglib_nb.engine.protocol import (
    Event,
    StartTransfer,
    TransferFailed,
    TransferFinished,
    TransferStopped,
)
from gglib_nb.engine.retry import can_retry
from gglib_nb.engine.storage.filesystem import disk_full, storage_error
from gglib_nb.engine.storage.gguf_facts import check_split_set
from gglib_nb.engine.storage.paths import journal_path
from gglib_nb.engine.transfer.coordinator import Coordinator
from gglib_nb.engine.transfer.mailbox import Mailbox
from gglib_nb.engine.transfer.resources import Resources
from gglib_nb.errors import DiskFullError, GglibError, StorageError, to_wire
from gglib_nb.system import free_bytes

_TICK_S: Final = 0.1
# At a stop, a rename that has begun is waited for no longer than this.
_STOP_WAIT_S: Final = 0.5


class Attempt:
    """One attempt. `start`, `stop` and `join` may be called from any thread; all else belongs to the coordinator."""

    def __init__(self, command: StartTransfer, resources: Resources, emit: Callable[[Event], None]) -> None:
        self._attempt = command.attempt
        self._emit = emit
        self._mailbox = Mailbox()
        self._stop_event = threading.Event()
        self._coordinator = Coordinator(command, resources, self._mailbox, self._stop_event)
        self._is_stopping = False
        self._thread = threading.Thread(target=self._main, name=f"gglib-transfer-{command.attempt}", daemon=True)

    @property
    def is_over(self) -> bool:
        """Whether its last event was emitted."""
        return not self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End within a second; the end is emitted."""
        self._stop_event.set()
        self._mailbox.post(self._stop)

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    def _stop(self) -> None:
        self._is_stopping = True

    def _main(self) -> None:
        try:
            end = self._run()
        except Exception as error:  # noqa: BLE001  # also a bug must end the attempt, or its slot is held for ever
            wrong = self._as_ours(error)
            end = TransferFailed(self._attempt, to_wire(wrong), can_retry(wrong))
        finally:
            self._coordinator.close()
        if isinstance(end, TransferFinished):
            for target in self._coordinator.targets:
                journal_path(target.path).unlink(missing_ok=True)
        self._emit(end)

    def _as_ours(self, error: Exception) -> GglibError:
        """What the kernel is told; a full disk says what is missing, a bug leaves its traceback in the log."""
        path = self._coordinator.targets[0].path
        if isinstance(error, OSError):
            error = storage_error(error, path)
        if isinstance(error, DiskFullError) and error.needed_bytes is None:
            return disk_full(path.parent, self._coordinator.missing_bytes, free_bytes(path.parent))
        if isinstance(error, GglibError):
            return error
        traceback.print_exception(error, file=sys.stderr)
        return StorageError(f"The engine failed ({type(error).__name__}: {redacted(str(error))}); its log says where.")

    def _run(self) -> Event:
        self._coordinator.scan()
        next_tick_s = time.monotonic()
        while not self._is_stopping:
            now_s = time.monotonic()
            self._coordinator.advance(now_s)
            if self._coordinator.is_done:
                return self._finished()
            if now_s >= next_tick_s:
                next_tick_s = now_s + _TICK_S
                self._coordinator.watch(now_s)
                self._emit(self._coordinator.progress(now_s))
            self._mailbox.take(next_tick_s - time.monotonic(), lambda: self._is_stopping)
        return self._stopped()

    def _finished(self) -> TransferFinished:
        stored = tuple(target.stored for target in self._coordinator.targets if target.stored is not None)
        check_split_set(stored)
        self._emit(self._coordinator.progress(time.monotonic()))
        return TransferFinished(self._attempt, stored)

    def _stopped(self) -> Event:
        """Whatever was renamed already is done; all else is left for a resume."""
        self._coordinator.close_gate()
        deadline_s = time.monotonic() + _STOP_WAIT_S
        while self._coordinator.is_renaming and (left_s := deadline_s - time.monotonic()) > 0:
            self._mailbox.take(left_s, lambda: False)
        return self._finished() if self._coordinator.is_done else TransferStopped(self._attempt)
