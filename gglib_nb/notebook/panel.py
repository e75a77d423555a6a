"""The live panel: one widget over one manager, shown in any number of views.

Connects parts and decides nothing: what the page is sent comes from `feed`, what its requests do is in `actions`, the structs
are in `messages`, the looks in `static/`.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import anywidget
import traitlets
from typing_extensions import override

from gglib_nb.domain.download import QueueSnapshot
from gglib_nb.errors import GglibError, NoGgufFilesError
from gglib_nb.notebook import actions, messages
from gglib_nb.notebook.esm import joined
from gglib_nb.notebook.feed import Feed
from gglib_nb.notebook.markup import render_html
from gglib_nb.notebook.panel_outputs import Bundle, PanelOutputs
from gglib_nb.notebook.text import render_text

if TYPE_CHECKING:
    from gglib_nb.manager.manager import DownloadManager

_STATIC: Final = Path(__file__).parent / "static"
_MOST_REQUESTS: Final = 200
_MOST_VIEWS: Final = 20
_log: Final = logging.getLogger(__name__)

PACE_S: Final = 0.18
"""Nobody reads digits that change more often, and a message costs the kernel a millisecond."""


class Panel(anywidget.AnyWidget):
    """The download panel; one model, any number of views.

    It lives until `close`, which ends its subscription; the downloads continue. Requests are handled on whatever thread ipykernel
    gives them to, and answered from whatever thread the manager finishes them on: `send` is safe from threads, setting traits
    is not, so nothing here sets one after construction.

    Attributes:
        snapshot: What a page gets when it opens or reloads, computed at that moment; the trait itself stays None.
    """

    _esm = joined(_STATIC, ".js")
    _css = joined(_STATIC, ".css")

    snapshot = traitlets.Any(None).tag(
        sync=True,
        echo_update=False,
        to_json=lambda _none, panel: messages.plain(panel.state),
        # The page keeps its own copy under the same name, for a notebook saved with its widgets; a host may send it back.
        from_json=lambda _page, _panel: None,
    )

    def __init__(self, manager: "DownloadManager", *, pace_s: float = PACE_S) -> None:
        """Shows the queue of a manager.

        Args:
            manager: The queue and the models to show.
            pace_s: Least time between two messages that bring nothing but counters; everything else is sent at once.
        """
        self._manager = manager
        self._pace_s = pace_s
        self._due_s = 0.0
        self._feed = Feed(manager.snapshot)
        self._publishing = Lock()
        self._requests = _Requests()
        self._shown_views: OrderedDict[str, bool] = OrderedDict()
        self._outputs = PanelOutputs(self._bundle, lambda: manager.snapshot)
        super().__init__()
        self.on_msg(self._receive)
        _keep_subshell(self.comm)
        self._unsubscribe = manager.subscribe(self._publish)
        self._publish(manager.snapshot)  # what changed between the first look and the subscription

    @property
    def state(self) -> messages.PanelState:
        """Everything as of the last message. Readable from any thread."""
        return self._feed.state

    @override
    def close(self) -> None:
        """Ends the subscription and closes every view. The downloads continue."""
        self._unsubscribe()
        self._outputs.close()
        super().close()

    def _ipython_display_(self, **_kwargs: object) -> None:
        self._outputs.show()

    def _bundle(self) -> Bundle:
        return (None if self.comm is None else self._repr_mimebundle_()) or ({"text/plain": repr(self)}, {})

    @override
    def _repr_mimebundle_(self, **kwargs: Any) -> Bundle | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        snapshot = self._manager.snapshot
        # For readers without the widget: GitHub, nbviewer, nbconvert, a terminal.
        return {**data, "text/plain": render_text(snapshot), "text/html": render_html(snapshot)}, metadata

    # To the page ---------------------------------------------------------------------------------------------------

    def _publish(self, snapshot: QueueSnapshot) -> None:
        self._outputs.follow(snapshot)
        with self._publishing:
            self._send_changes(snapshot, counts=self._is_watched and time.monotonic() >= self._due_s)

    def _send_changes(self, snapshot: QueueSnapshot, *, counts: bool) -> None:
        if (changes := self._feed.advance(snapshot, counts=counts)) is not None:
            self._due_s = time.monotonic() + self._pace_s
            self.send(messages.plain(changes))

    @property
    def _is_watched(self) -> bool:
        # To be read while `_publishing` is held. Before the first page says what it shows, one may be about to.
        return not self._shown_views or any(self._shown_views.values())

    # From the page -------------------------------------------------------------------------------------------------

    def _receive(self, _widget: object, content: object, _buffers: object) -> None:
        cid = content.get("cid") if isinstance(content, dict) else None
        if not isinstance(cid, str):
            _log.warning("The panel's page sent a message without an id, so it cannot be answered.")
            return
        self._outputs.hear()
        try:
            self._handle(messages.parse_request(content))
        except Exception as error:  # noqa: BLE001 - a page that gets no answer asks again
            self._refuse(cid, error)

    def _handle(self, request: messages.Request) -> None:
        match request:
            case messages.Sync():
                with self._publishing:
                    self._send_changes(self._manager.snapshot, counts=True)
                    state = None if request.seq == self._feed.seq else self.state
                    self._reply(messages.Reply(cid=request.cid, result=state))  # before any later changes
            case messages.Look():
                with self._publishing:
                    self._shown_views[request.view] = request.is_shown
                    self._shown_views.move_to_end(request.view)
                    if len(self._shown_views) > _MOST_VIEWS:  # pages that were reloaded do not say so
                        self._shown_views.popitem(last=False)
                self._reply(messages.Reply(cid=request.cid))
            case _:
                if self._requests.is_new(request.cid, self.send):
                    tell = partial(self._tell, request.cid)
                    started = self._manager.submit(actions.act, self._manager, request, tell)
                    started.add_done_callback(partial(self._answer, request.cid))

    def _tell(self, cid: str, text: str) -> None:
        self.send(messages.plain(messages.Progress(cid, text)))

    def _answer(self, cid: str, future: "Future[Any]") -> None:
        try:
            self._reply(messages.Reply(cid=cid, result=future.result()))
        except Exception as error:  # noqa: BLE001 - as above
            self._refuse(cid, error)

    def _refuse(self, cid: str, error: Exception) -> None:
        if isinstance(error, GglibError):
            text = str(error)
        else:
            _log.error("A request of the panel failed.", exc_info=error)
            # The text of a foreign error can hold anything, a token included; its name cannot.
            text = f"The kernel could not do that ({type(error).__name__}). Its log has the details."
        alternatives = error.alternatives if isinstance(error, NoGgufFilesError) else ()
        self._reply(messages.Reply(cid=cid, error=text, alternatives=tuple(alternatives)))

    def _reply(self, reply: messages.Reply) -> None:
        self._requests.answer(reply.cid, plain := messages.plain(reply))
        self.send(plain)


class _Requests:
    """Remembers requests, since a page asks again where an answer was lost: each is done once. Safe from threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._replies: OrderedDict[str, Any] = OrderedDict()

    def is_new(self, cid: str, send: Callable[[Any], None]) -> bool:
        """Whether the request has to be done; one that was answered before is answered again with `send`."""
        with self._lock:
            is_new, reply = cid not in self._replies, self._replies.get(cid)
            self._replies.setdefault(cid, None)
            if len(self._replies) > _MOST_REQUESTS:
                self._replies.popitem(last=False)
        if reply is not None:
            send(reply)
        return is_new

    def answer(self, cid: str, reply: Any) -> None:  # noqa: ANN401 - JSON
        """Keeps the answer."""
        with self._lock:
            if cid in self._replies:
                self._replies[cid] = reply


def _keep_subshell(comm: object) -> None:
    """Leaves every message of the page on the subshell that the page chose for it.

    JupyterLab sends a widget's messages to a subshell, so that they are handled while a cell runs. ipykernel 7.4
    sends replies to the shell that published last, which for us is the main one as soon as the queue's thread has
    published: a click would then wait for the cell. `_reply_subshell_for(data, chosen)` is where it decides.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, chosen: chosen  # noqa: SLF001 - there is no public way
