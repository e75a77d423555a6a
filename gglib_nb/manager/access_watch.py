"""Retries downloads that failed for lack of access, once the Hub grants it."""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from gglib_nb.domain.names import DownloadId, modelscope_name
from gglib_nb.domain.snapshot import DownloadFailed, QueueEvent, QueueSnapshot, SnapshotChanged
from gglib_nb.errors import GatedRepoError, GglibError, InvalidTokenError


class AccessWatch:
    """While such a failure is in a manager's list, a thread asks the Hub about each repository from time to time.

    `check` raises `GglibError` if a repository may not be downloaded; `retry` queues a download again.
    """

    def __init__(
        self,
        snapshot: Callable[[], QueueSnapshot],
        check: Callable[[str], None],
        retry: Callable[[DownloadId], object],
        interval_s: float = 60.0,
    ) -> None:
        self._snapshot: Final = snapshot
        self._check: Final = check
        self._retry: Final = retry
        self._interval_s: Final = interval_s
        self._closed: Final = threading.Event()
        self._lock: Final = threading.Lock()
        self._thread: threading.Thread | None = None

    def handle(self, event: QueueEvent) -> None:
        """Starts watching once a download waits for access; called with every event of the queue."""
        if not isinstance(event, DownloadFailed | SnapshotChanged) or not waiting_for_access(self._snapshot()):
            return
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                thread = threading.Thread(target=self._watch, name="gglib-access", daemon=True)
                thread.start()
                self._thread = thread  # if it cannot start, the next failure tries again

    def close(self) -> None:
        """Ends the watch."""
        self._closed.set()

    def retry(self, waiting: Iterable[DownloadId]) -> list[DownloadId]:
        """Retries the downloads whose repositories the Hub gives access to now; returns them."""
        retried: list[DownloadId] = []
        for id_ in waiting:
            with suppress(GglibError):  # no access yet, the queue is full, or the manager is closed
                self._check(id_.repo_id)
                self._retry(id_)
                retried.append(id_)
        return retried

    def _watch(self) -> None:
        while (waiting := waiting_for_access(self._snapshot())) and not self._closed.wait(self._interval_s):
            self.retry(waiting)
        with self._lock:
            self._thread = None


def waiting_for_access(snapshot: QueueSnapshot) -> list[DownloadId]:
    """The failed downloads that access would fix; ModelScope's repositories get no token, so a login does not change theirs."""
    failed = (item for item in snapshot.recent_failures if modelscope_name(item.id.repo_id) is None)
    return [item.id for item in failed if _is_about_access(item.error)]


def _is_about_access(error: GglibError | None) -> bool:
    return isinstance(error, InvalidTokenError) or (isinstance(error, GatedRepoError) and error.state != "rejected")
