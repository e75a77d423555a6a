"""The live panel: one widget over one manager, shown in any number of views.

Wires only. What the page is sent is worked out in `feed`, what its requests do in `actions`, the shapes stand in
`messages`, the looks in `static/panel.js` and `static/panel.css`. It keeps no state of the queue and decides nothing.
"""

import logging
import os
import time
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
from gglib_nb.notebook import actions
from gglib_nb.notebook.esm import joined
from gglib_nb.notebook.feed import Feed, Sight
from gglib_nb.notebook.markup import render_html
from gglib_nb.notebook.messages import Delta, PanelState, Reply, parse_request
from gglib_nb.notebook.panel_outputs import Bundle, PanelOutputs
from gglib_nb.notebook.text import render_text

if TYPE_CHECKING:
    from gglib_nb.manager.manager import DownloadManager

_STATIC: Final = Path(__file__).parent / "static"
_log: Final = logging.getLogger(__name__)

PACE_S: Final = 0.18
"""Digits that change more often are not read, and a message costs the kernel a millisecond."""


class Panel(anywidget.AnyWidget):
    """The download panel; one model, any number of views.

    It lives until `close`, which ends its subscription. Clicks are handled on whatever thread ipykernel gives them
    to, and answered from whatever thread the manager finishes them on: `send` is safe from threads, setting traits
    is not, so nothing here sets one after construction.

    Attributes:
        snapshot: What a page gets when it opens or reloads, worked out at that moment; the trait itself stays None.
        home: This user's home folder, which Jupyter's server calls `~` when it tells its pages where it stands.
    """

    _esm = joined(_STATIC / "panel.js")
    _css = _STATIC / "panel.css"

    snapshot = traitlets.Any(None).tag(
        sync=True,
        echo_update=False,
        to_json=lambda _none, panel: panel.state,
        # The page keeps its own copy up to date under the same name, for a notebook saved with its widgets; should
        # a host send that back, it changes nothing here.
        from_json=lambda _page, _panel: None,
    )

    # Where there is none, as of a user that a container does not know, pathlib would raise.
    home = traitlets.Unicode(os.path.expanduser("~")).tag(sync=True)  # noqa: PTH111

    def __init__(self, manager: "DownloadManager", *, pace_s: float = PACE_S) -> None:
        """Shows the queue of a manager.

        Args:
            manager: Whose queue.
            pace_s: How long after a message another waits that brings nothing but counters; all else goes at once.
        """
        self._manager = manager
        self._pace_s = pace_s
        self._due_s = 0.0
        self._feed = Feed(manager.snapshot)
        self._publishing = Lock()
        self._outputs = PanelOutputs(self._bundle, lambda: manager.snapshot)
        super().__init__()
        self.on_msg(self._receive)
        _keep_subshell(self.comm)
        self._unsubscribe = manager.subscribe(self._publish)
        # What changed between the first look and the subscription; the lock, since the queue's thread may be here too.
        self._publish(manager.snapshot)

    @property
    def state(self) -> PanelState:
        """The whole state as of the last delta. Readable from any thread."""
        return self._feed.state

    @override
    def close(self) -> None:
        """Ends the subscription and closes every view. The downloads go on."""
        self._unsubscribe()
        self._outputs.close()
        super().close()

    def _ipython_display_(self, **_kwargs: object) -> None:
        # As an output that can be brought up to date; a plain result cannot.
        self._outputs.show()

    def _bundle(self) -> Bundle:
        is_closed = self.comm is None
        return (None if is_closed else self._repr_mimebundle_()) or ({"text/plain": repr(self)}, {})

    @override
    def _repr_mimebundle_(self, **kwargs: Any) -> Bundle | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        snapshot = self._manager.snapshot
        # For readers without the widget: GitHub, nbviewer, nbconvert, a terminal.
        return {**data, "text/plain": render_text(snapshot), "text/html": render_html(snapshot)}, metadata

    def _publish(self, snapshot: QueueSnapshot) -> None:
        self._outputs.follow(snapshot)
        with self._publishing:
            is_early = time.monotonic() < self._due_s
            delta = None if is_early and self._feed.keeps_back(snapshot) else self._feed.advance(snapshot)
            if delta:
                self._due_s = time.monotonic() + self._pace_s
                self.send(delta)

    def _tell(self, news: Callable[[], Delta | None]) -> None:
        with self._publishing:
            if delta := news():
                self.send(delta)

    def _receive(self, _widget: object, content: object, _buffers: object) -> None:
        cid = content.get("cid") if isinstance(content, dict) else None
        if not isinstance(cid, str):
            _log.warning("The panel's page sent a message without an id; nobody can be answered.")
            return
        try:
            request = parse_request(content)
            if request["kind"] == "sync":
                self._tell(self._feed.catch_up)
                self._reply({"kind": "reply", "cid": cid, "ok": True, "result": self.state})
            elif request["kind"] == "sight":
                sight = Sight(frozenset(request["rows"]), frozenset(request["mapped"])) if request["is_shown"] else None
                self._tell(partial(self._feed.look, request["view"], sight))
                self._reply({"kind": "reply", "cid": cid, "ok": True, "result": None})
            else:
                self._manager.submit(actions.act, self._manager, request, self.send).add_done_callback(
                    partial(self._answer, cid)
                )
        except Exception as error:  # noqa: BLE001 - a page that gets no answer waits for ever
            self._refuse(cid, error)

    def _answer(self, cid: str, future: Future[Any]) -> None:
        try:
            self._reply({"kind": "reply", "cid": cid, "ok": True, "result": future.result()})
        except Exception as error:  # noqa: BLE001 - as above
            self._refuse(cid, error)

    def _refuse(self, cid: str, error: Exception) -> None:
        if isinstance(error, GglibError):
            text = str(error)
        else:
            _log.error("A request of the panel failed.", exc_info=error)
            # The text of a foreign error can hold anything, a token included; its name cannot.
            text = f"That failed in the kernel ({type(error).__name__}); its log says more."
        reply: Reply = {"kind": "reply", "cid": cid, "ok": False, "error": text}
        if isinstance(error, NoGgufFilesError) and error.alternatives:
            reply["alternatives"] = list(error.alternatives)
        self._reply(reply)

    def _reply(self, reply: Reply) -> None:
        self.send(reply)


def _keep_subshell(comm: object) -> None:
    """Leaves every message of the page on the subshell the page chose for it.

    JupyterLab sends a widget's messages to a subshell, so that they are handled while a cell runs. ipykernel 7.4
    sends replies to the shell that published last, which for us is the main one as soon as the queue's thread has
    published: a click would then wait for the cell. `_reply_subshell_for(data, chosen)` is where it decides.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, chosen: chosen  # noqa: SLF001 - nowhere else to say so
