"""The summary of a run of the queue: from the first start until nothing is left to do."""

from dataclasses import dataclass, field
from typing import Final

from gglib_nb.domain.download import DownloadStatus, QueuedDownload, QueueRunSummary, RunItem
from gglib_nb.domain.references import DownloadId

_ITEMS_SHOWN: Final = 20


@dataclass(slots=True)
class Run:
    """Counts the ended downloads of one run.

    Attributes:
        started_at_s: Unix time.
    """

    started_at_s: float
    _items: list[RunItem] = field(default_factory=list)

    def record(self, download: QueuedDownload, at_s: float) -> None:
        """Adds an ended download; one that was retried is added again."""
        message = str(download.error) if download.error is not None else ""
        self._items.append(RunItem(download.id, download.status, at_s, download.total_bytes, message))

    def summary(self, at_s: float) -> QueueRunSummary | None:
        """The summary; None if nothing ended."""
        if not self._items:
            return None
        attempts = [item.outcome for item in self._items]
        last: dict[DownloadId, DownloadStatus] = {item.id: item.outcome for item in self._items}
        models = list(last.values())
        return QueueRunSummary(
            started_at_s=self.started_at_s,
            ended_at_s=at_s,
            attempts_completed=attempts.count(DownloadStatus.COMPLETED),
            attempts_failed=attempts.count(DownloadStatus.FAILED),
            attempts_cancelled=attempts.count(DownloadStatus.CANCELLED),
            models_completed=models.count(DownloadStatus.COMPLETED),
            models_failed=models.count(DownloadStatus.FAILED),
            models_cancelled=models.count(DownloadStatus.CANCELLED),
            items=tuple(self._items[: -_ITEMS_SHOWN - 1 : -1]),
            is_truncated=len(self._items) > _ITEMS_SHOWN,
        )
