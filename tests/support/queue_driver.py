"""Drives the queue machine in short form: a clock, a fake engine's reports by id, and the resulting queue."""

from itertools import count

from gglib_nb.domain import reports
from gglib_nb.domain import snapshot as announced
from gglib_nb.domain.download import DownloadStatus, ShardStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.stored import RestoredDownload, StoredLimits
from gglib_nb.domain.units import DailyHours
from gglib_nb.errors import NetworkError
from gglib_nb.queue import effects as do
from gglib_nb.queue import events as on
from gglib_nb.queue.downloads import Limits
from gglib_nb.queue.machine import QueueMachine
from tests.support.plans import stored
from tests.support.queue_invariants import check_invariants

TIMEOUT = NetworkError("The line was cut. `retry` continues.")


class QueueDriver:
    """One machine; every step checks its invariants.

    `attempts` has the newest attempt of each download by its id's text, `plans` the plan of each attempt.
    """

    def __init__(self, **config):
        self.machine = QueueMachine(Limits(**config))
        self.now_s = 1000.0
        self.effects = []
        self.attempts = {}
        self.plans = {}
        self._requests = count(1)

    def send(self, event):
        self.effects = []
        try:
            self.effects = self.machine.handle(event, self.now_s)
        finally:
            check_invariants(self.machine)
        for effect in self.of(do.StartAttempt):
            self.attempts[str(effect.plan.id)] = effect.attempt
            self.plans[effect.attempt] = effect.plan
        return next((effect.value for effect in self.of(do.Reply)), None)

    def of(self, kind):
        """The effects of the last step that are of one kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def announced(self, kind):
        """The announcements of the last step that are of one kind."""
        return [
            effect for effect in self.effects if isinstance(effect, announced.QueueEvent) and isinstance(effect, kind)
        ]

    # Requests

    def receive(self, text="owner/model"):
        number = next(self._requests)
        self.send(on.RequestReceived(number, text))
        return number

    def resolve(self, request, plan, *, starts=True, joins=True):
        return self.send(on.PlanResolved(request, plan, starts, joins))

    def drop(self, request):
        self.send(on.RequestDropped(request))

    def queue(self, plan, *, starts=True, joins=True):
        """Requests and resolves; a refused request is dropped, as in the queue thread."""
        request = self.receive(str(plan.id))
        try:
            return self.resolve(request, plan, starts=starts, joins=joins)
        except Exception:
            self.drop(request)
            raise

    def cancel(self, text, *, discards=False):
        self.send(on.CancelRequested(DownloadId.parse(text), discards))

    def cancel_all(self):
        return self.send(on.AllCancelRequested())

    def remove(self, text):
        self.send(on.RemovalRequested(DownloadId.parse(text)))

    def move(self, text, position):
        return self.send(on.MoveRequested(DownloadId.parse(text), position))

    def pause(self, text):
        self.send(on.PauseRequested(DownloadId.parse(text)))

    def put_back(self, *texts):
        return self.send(on.PutBackRequested(tuple(map(DownloadId.parse, texts))))

    def pause_all(self):
        self.send(on.PauseRequested(None))

    def resume_all(self):
        self.send(on.ResumeRequested(None))

    def resume(self, text):
        self.send(on.ResumeRequested(DownloadId.parse(text)))

    def run_now(self, text):
        self.send(on.RunRequested(DownloadId.parse(text)))

    def clear(self, status):
        self.send(on.EndedCleared(DownloadStatus(status)))

    def discard(self, text):
        self.send(on.CancelRequested(DownloadId.parse(text), True))

    def retry(self, text):
        return self.send(on.RetryRequested(DownloadId.parse(text)))

    def clear_failed(self, text=None):
        failed = on.EndedCleared(DownloadStatus.FAILED)
        self.send(failed if text is None else on.FailureCleared(DownloadId.parse(text)))

    def run_at_once(self, number):
        self.send(on.ConcurrencyChanged(number))

    def keep_hours(self, text, *, is_open):
        hours = None if text is None else DailyHours.parse(text)
        self.send(on.LimitsChanged(StoredLimits(has_hours=True, hours=hours), is_open))

    # Other kernels

    def restore(self, *stored, limits=None, starts=True):
        """Adopts the queue of an earlier kernel, with ten bytes of each file on disk."""
        downloads = tuple(RestoredDownload(one, tuple(10 for _file in one.plan.files)) for one in stored)
        return self.send(on.DownloadsRestored(downloads, limits or StoredLimits(), starts))

    def see(self, **owners):
        """Other kernels transfer these plans; by owner."""
        self.send(on.PeersSeen({plan.identity: owner for owner, plan in owners.items()}))

    # Reports; a download is named by its id, an old attempt by its number

    def _attempt(self, which):
        return which if isinstance(which, int) else self.attempts[which]

    def progress(self, which, *downloaded, received=0, at_s=0.0, notice=None, is_finalizing=False, reused=(0, ())):
        """`downloaded` are the bytes on disk, file by file; 0 for other files."""
        attempt = self._attempt(which)
        bytes_of_files = (*downloaded, *(0 for _ in self.plans[attempt].files[len(downloaded) :]))
        files = tuple(reports.FileProgress(bytes_, ShardStatus.DOWNLOADING) for bytes_ in bytes_of_files)
        kind, seconds, text = notice or (None, None, "")
        self.send(reports.Progress(attempt, at_s, files, received, kind, seconds, text, is_finalizing, *reused))

    def finish(self, which, **how):
        attempt = self._attempt(which)
        self.send(reports.TransferFinished(attempt, stored(self.plans[attempt], **how)))

    def fail(self, which, error=TIMEOUT, *, can_retry=True):
        self.send(reports.TransferFailed(self._attempt(which), error, can_retry))

    def stopped(self, which):
        self.send(reports.TransferStopped(self._attempt(which)))

    def lose_engine(self):
        self.send(reports.EngineLost())

    def fall_silent(self, silent_s):
        return self.send(reports.EngineSilent(silent_s))

    def registered(self, which):
        self.send(on.ModelRegistered(self._attempt(which)))

    def registration_failed(self, which, error=TIMEOUT):
        self.send(on.ModelRegistered(self._attempt(which), error=error))

    def complete(self, which):
        """The engine finishes and the catalog writes."""
        attempt = self._attempt(which)
        self.finish(attempt)
        self.registered(attempt)

    # What the queue shows

    @property
    def snapshot(self):
        return self.machine.snapshot()

    @property
    def rows(self):
        """`id status position` of all live downloads, as shown by the queue."""
        return [f"{item.id} {item.status} {item.position}" for item in self.snapshot.items]

    @property
    def failures(self):
        return [str(item.id) for item in self.snapshot.recent_failures]

    def item(self, text):
        """One live download as shown in the snapshot."""
        return next(item for item in self.snapshot.items if str(item.id) == text)
