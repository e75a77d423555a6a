"""A fake manager that records its calls and returns a given snapshot."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from gglib_nb.domain.library import DiskUse
from gglib_nb.domain.model import FileLook, Model, ModelSummary, summary_of
from gglib_nb.domain.snapshot import QueueSnapshot
from gglib_nb.manager.calls import DaemonThreadPool, settled
from tests.support.snapshots import snapshot

_LOOKING_ROUND = ("adopt", "see_others", "history")


class FakeManager:
    """Replaces the manager for the panel and the magics.

    Attributes:
        snapshot: Its snapshot; change it with `show`.
        asked: `(operation, arguments, keywords)` of every call, in order, except checks of other kernels.
        answers: The result of an operation: a value, an exception, or the result of a future that the test sets; or a
            function that is called with the arguments and returns the value.
        submitted: The future of each `submit`, in order.
        waits: Set when an operation waits for the test; `submit` then does not wait.
        registered: The finished models.
        uses: When models were last used, as Unix time by id.
        missing_stores: Folders of `model_stores` that do not exist.
    """

    def __init__(self, *items: Any, **fields: Any) -> None:
        self.snapshot: QueueSnapshot = snapshot(*items, **fields)
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, Any] = {"history": []}
        self.registered: list[Model] = []
        self.missing_stores: tuple[str, ...] = ()
        self.uses: dict[str, float] = {}
        self.sync = FakeOperations(self)
        self._calls = DaemonThreadPool("fake")
        self.waits = threading.Event()
        self.submitted: list[Future[Any]] = []
        self._listeners: list[Callable[[QueueSnapshot], None]] = []

    def show(self, *items: Any, **fields: Any) -> None:
        """Changes to another queue and notifies the listeners."""
        self.tell(snapshot(*items, version=self.snapshot.version + 1, **fields))

    def tell(self, news: QueueSnapshot) -> None:
        """Notifies the listeners of an existing snapshot."""
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

    @property
    def catalog(self) -> "FakeManager":
        return self

    def find(self, text: str) -> Model:
        """The catalog's: the first model whose id contains the text."""
        return next(model for model in self.registered if str(text) in str(model.id))

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        """The manager's; returns when the function has ended, or waits for a future that the test sets."""
        self.waits.clear()
        future = self._calls.submit(function, *arguments, **keywords)
        self.submitted.append(future)
        while not future.done() and not self.waits.wait(0.001):
            pass
        return future

    def answer(self, operation: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Does an operation."""
        if operation not in _LOOKING_ROUND:
            self.asked.append((operation, arguments, keywords))
        answer = self.answers.get(operation)
        if isinstance(answer, Future):
            self.waits.set()
            return settled(answer)
        if isinstance(answer, Exception):
            raise answer
        return answer(*arguments, **keywords) if callable(answer) else answer


class FakeOperations:
    """The operations that wait."""

    def __init__(self, manager: FakeManager) -> None:
        self._manager = manager

    def get_queue_snapshot(self) -> QueueSnapshot:
        return self._manager.snapshot

    def models(self) -> list[ModelSummary]:
        registered = self._manager.registered
        looks = {file.target: FileLook(file.size_bytes, file.mtime_ns) for model in registered for file in model.files}
        stores = {"store": "~/.lmstudio/models"}
        return [
            replace(summary_of(model, looks, self._manager.uses.get(str(model.id))), store=stores.get(model.origin, ""))
            for model in registered
        ]

    def find_model(self, id_: str) -> Model:
        return self._manager.find(id_)

    def path(self, id_: str) -> Path:
        return Path(self._manager.find(id_).paths[0])

    def disk_use(self) -> DiskUse:
        return DiskUse(
            sum(model.size_bytes for model in self._manager.registered),
            10 * 1024**3,
            "/models",
            self._manager.missing_stores,
        )

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **keywords: self._manager.answer(name, arguments, keywords)
