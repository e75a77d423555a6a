"""A manager that does nothing but remember: what it was asked for, and the snapshot it is told to have."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from gglib_nb.domain.deletion import DiskUse
from gglib_nb.domain.download import QueueSnapshot
from gglib_nb.domain.model import Model
from gglib_nb.domain.model_summary import FileLook, ModelSummary, summary_of
from tests.support.snapshots import snapshot

_LOOKING_ROUND = ("adopt", "see_others", "history")


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


class FakeManager:
    """Stands where the panel and the magics expect a manager.

    Attributes:
        snapshot: What it shows; change it with `show`.
        asked: `(operation, arguments, keywords)` of every submit, in order, but for the looks at other kernels.
        answers: What an operation's future holds: a value, an exception, or a future to be settled by the test; or a
            function that is called with the arguments and gives the value.
        registered: The finished models.
    """

    def __init__(self, *items: Any, **fields: Any) -> None:
        self.snapshot: QueueSnapshot = snapshot(*items, **fields)
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, Any] = {"history": []}
        self.registered: list[Model] = []
        self._listeners: list[Callable[[QueueSnapshot], None]] = []

    def show(self, *items: Any, **fields: Any) -> None:
        """Becomes another queue, and tells the listeners."""
        self.tell(snapshot(*items, version=self.snapshot.version + 1, **fields))

    def tell(self, news: QueueSnapshot) -> None:
        """Tells the listeners of a snapshot that was made before."""
        self.snapshot = news
        for listener in list(self._listeners):
            listener(news)

    def subscribe(self, listener: Callable[[QueueSnapshot], None], /) -> Callable[[], None]:
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def models(self) -> list[Model]:
        """The catalog's."""
        return self.registered

    def submit_models(self) -> Future[list[ModelSummary]]:
        looks = {
            file.target: FileLook(file.size_bytes, file.mtime_ns) for model in self.registered for file in model.files
        }
        return _done([summary_of(model, looks) for model in self.registered])

    def submit_disk_use(self) -> Future[DiskUse]:
        return _done(DiskUse(sum(model.size_bytes for model in self.registered), 10 * 1024**3, "/models"))

    @property
    def catalog(self) -> "FakeManager":
        return self

    def find(self, text: str) -> Model:
        """The catalog's: the first model of which the id holds the text."""
        return next(model for model in self.registered if str(text) in str(model.id))

    def __getattr__(self, name: str) -> Callable[..., Future[Any]]:
        if not name.startswith("submit_"):
            raise AttributeError(name)
        return lambda *arguments, **keywords: self._submit(name.removeprefix("submit_"), arguments, keywords)

    def _submit(self, operation: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Future[Any]:
        if operation not in _LOOKING_ROUND:
            self.asked.append((operation, arguments, keywords))
        answer = self.answers.get(operation)
        if isinstance(answer, Future):
            return answer
        future: Future[Any] = Future()
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer(*arguments, **keywords) if callable(answer) else answer)
        return future
