"""A manager that answers at once from what a test gives it, with the domain's own values, and remembers what it was asked."""

from concurrent.futures import Future
from dataclasses import replace

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.references import DownloadId
from gglib_nb.errors import ModelNotFoundError, NotInQueueError
from tests.support.queue_values import a_download, a_snapshot


def answered(value=None):
    future = Future()
    future.set_result(value)
    return future


def refused(error):
    future = Future()
    future.set_exception(error)
    return future


class _Place(tuple):
    id: DownloadId


class FakeCatalog:
    def __init__(self, models=()):
        self._models = list(models)

    def find(self, text):
        for model in self._models:
            if text in str(model.id):
                return model
        raise ModelNotFoundError(f"No model answers to {text!r}. %gguf models lists them.")


class FakeManager:
    """Attributes a test sets: `snapshot`, `refusal` (what every change ends with), `pending` (a future to be waited for)."""

    def __init__(self, *items, **fields):
        self.snapshot = a_snapshot(*items, **fields)
        self.asked = []
        self.refusal = None
        self.pending = None
        self.found = []
        self.plan = None
        self.registered = []

    @property
    def catalog(self):
        return FakeCatalog(self.registered)

    def models(self):
        return self.registered

    def subscribe(self, listener):
        return lambda: None

    def submit_queue_smart(self, repo_id, quantization=None, **options):
        self.asked.append(("queue_smart", repo_id, quantization, options))
        if self.pending is not None or self.refusal is not None:
            return self._answer()
        id_ = DownloadId(repo_id, quantization or "Q4_K_M", options.get("revision"))
        if all(item.id != id_ for item in self.snapshot.items):
            position = len(self.snapshot.items)
            status = DownloadStatus.QUEUED if position else DownloadStatus.DOWNLOADING
            reason = "" if quantization else "Q4_K_M is the first choice."
            item = replace(a_download(str(id_), status, position=position), reason=reason)
            self.snapshot = replace(self.snapshot, items=(*self.snapshot.items, item))
        place = _Place((0, 1))
        place.id = id_
        return answered(place)

    def submit_queue_download(self, request):
        self.asked.append(("queue_download", request))
        item = a_download(str(request.id), position=1)
        self.snapshot = replace(self.snapshot, items=(*self.snapshot.items, item))
        return answered(request.id)

    def submit_search(self, words, **options):
        self.asked.append(("search", words, options))
        return self._answer(self.found)

    def submit_plan(self, repo_id, quantization=None, **options):
        self.asked.append(("plan", repo_id, quantization, options))
        return self._answer(self.plan)

    def submit_reorder_queue(self, id_, position):
        self.asked.append(("reorder_queue", str(id_), position))
        return self._answer(position)

    def submit_set_max_queue_size(self, number):
        self.asked.append(("set_max_queue_size", number))
        self.snapshot = replace(self.snapshot, max_size=number)
        return self._answer()

    def submit_set_bandwidth_limit(self, limit):
        self.asked.append(("set_bandwidth_limit", limit))
        return self._answer()

    def submit_wait(self, id_):
        self.asked.append(("wait", str(id_)))
        if not any(item.id == id_ for item in self.snapshot.items):
            return refused(NotInQueueError("No such download."))
        return self._answer()

    def submit_retry(self, id_):
        self.asked.append(("retry", str(id_)))
        item = a_download(str(id_), position=self.snapshot.pending_count + 1)
        self.snapshot = replace(self.snapshot, items=(*self.snapshot.items, item), recent_failures=())
        return self._answer(item.position)

    def submit_cancel_download(self, id_, *, discard=False):
        self.asked.append(("cancel_download", str(id_), discard))
        return self._answer()

    def __getattr__(self, name):
        if not name.startswith("submit_"):
            raise AttributeError(name)

        def submit(*given):
            self.asked.append((name.removeprefix("submit_"), *map(str, given)))
            return self._answer()

        return submit

    def _answer(self, value=None):
        if self.pending is not None:
            return self.pending
        return refused(self.refusal) if self.refusal is not None else answered(value)
