"""The live panel: one widget over one manager, shown in any number of views.

`Feed` computes the changes to send, `actions` executes the page's requests, `messages` declares the structs, and
`static/` contains the page.
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
import msgspec
import traitlets
from msgspec.structs import replace
from typing_extensions import override

from gglib_nb.domain.snapshot import QueueSnapshot
from gglib_nb.domain.text import redacted
from gglib_nb.errors import GglibError, NoGgufFilesError, RequestError
from gglib_nb.notebook import actions, messages, rows
from gglib_nb.notebook.listings import FILTERS
from gglib_nb.notebook.messages import Changes, PanelState
from gglib_nb.notebook.outputs import Bundle, PanelOutputs
from gglib_nb.notebook.render import static_bundle

if TYPE_CHECKING:
    from gglib_nb.manager.manager import DownloadManager

_STATIC: Final = Path(__file__).parent / "static"
_MOST_REQUESTS: Final = 200
_MOST_VIEWS: Final = 20
_log: Final = logging.getLogger(__name__)

PACE_S: Final = 0.28
"""Digits that change faster are unreadable, and each message costs the kernel two milliseconds."""


class Feed:
    """The state last sent to the page, and the changes since: each changed row in full. Pure: no widget or clock.

    Relies on `QueueSnapshot` reusing the objects of unchanged items, so that the cost of an update depends on the
    number of changed items only. `advance` must not be called concurrently; `state` may be read by any thread.
    """

    def __init__(self, snapshot: QueueSnapshot) -> None:
        self._snapshot = snapshot
        found = rows.rows_of(snapshot)
        self.state = PanelState(0, rows.header(snapshot), rows.views(snapshot), found, rows.PANEL_TEXTS, FILTERS)

    def advance(self, snapshot: QueueSnapshot, *, counts: bool = True) -> Changes | None:
        """Advances to a snapshot, if it is newer, and returns the changes to send; None if there are none.

        Without `counts`, changes of counters alone, such as bytes and rates, are left for the next changes.
        """
        before, old = self._snapshot, self.state
        if snapshot.version <= before.version or (not counts and _outline(before) == _outline(snapshot)):
            return None
        header, views = rows.header(snapshot), rows.views(snapshot)
        found = rows.rows_of(snapshot, before, old.rows)
        changed = [row for id_, row in found.items() if row is not old.rows.get(id_) and row != old.rows.get(id_)]
        is_changed = bool(changed) or header != old.header or views != old.views
        self._snapshot = snapshot
        self.state = replace(old, seq=old.seq + is_changed, header=header, views=views, rows=found)
        if not is_changed:
            return None
        return Changes(
            seq=self.state.seq,
            header=None if header == old.header else header,
            views=None if views == old.views else views,
            rows=msgspec.json.encode(changed).decode() if changed else "",
            news=tuple(rows.news(before, snapshot)),
        )


_NO_COUNTERS: Final[dict[str, Any]] = {
    **dict.fromkeys(("items", "recent_completed", "recent_failures", "recent_cancelled", "elsewhere"), ()),
    **dict.fromkeys(("version", "bytes_per_second", "eta_seconds")),
}


def _outline(snapshot: QueueSnapshot) -> tuple[object, ...]:
    """All of a snapshot but its counters."""
    return (
        tuple((item.id, item.status, item.position, item.commit_sha) for item in snapshot.downloads.values()),
        tuple((item.owner, item.id, item.status, item.is_left) for item in snapshot.elsewhere),
        replace(snapshot, **_NO_COUNTERS),
    )


def joined(folder: Path, suffix: str) -> str:
    """The concatenated files of a folder with this suffix, without comment lines.

    A front end loads a widget's module from text, so it cannot import other files (anywidget #78). The scripts in
    `static/` therefore share one scope, and one of them exports the widget. Comments are removed because notebooks that
    save their widgets contain the module.
    """

    def is_comment(line: str) -> bool:
        # A line that starts with a type comment, followed by code, is no comment.
        is_block = line.startswith("/*") and ("*/" not in line or line.endswith("*/"))
        return is_block or line.startswith(("//", "*"))

    files = sorted(folder.glob(f"*{suffix}"))
    lines = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return "\n".join(line for line in lines if line and not is_comment(line)) + "\n"


class Panel(anywidget.AnyWidget):
    """The download panel; one model, any number of views.

    `close` ends its subscription; the downloads continue.

    Attributes:
        manager: The manager whose queue and models are shown.
    """

    # Answers come from threads of the manager: `send` is thread-safe, setting traits is not, so none is set after
    # construction.
    _esm = joined(_STATIC, ".js")
    _css = joined(_STATIC, ".css")
    _ends: tuple[Callable[[], object], ...] = ()  # a widget that could not be made is closed, too

    # The state for a page that opens or reloads, computed when it is read; the trait's own value is always None.
    snapshot = traitlets.Any(None).tag(
        sync=True,
        echo_update=False,
        to_json=lambda _none, panel: messages.plain(panel.state),
        # The page stores its copy under the same name, for notebooks that save widgets; a host may send it back.
        from_json=lambda _page, _panel: None,
    )

    def __init__(self, manager: "DownloadManager", *, pace_s: float = PACE_S) -> None:
        """Creates a panel; `pace_s` is the least interval of messages with only counters, others are sent at once."""
        if not isinstance(getattr(manager, "snapshot", None), QueueSnapshot):
            raise RequestError(f"Panel needs a manager, not {manager!r}: Panel(gglib_nb.get_manager()).")
        self.manager = manager
        self._pace_s = pace_s
        self._due_s = 0.0
        self._feed = Feed(manager.snapshot)
        self._publishing = Lock()
        self._requests: OrderedDict[str, Future[Any]] = OrderedDict()  # recent ones, which may be sent again
        self._requesting = Lock()
        self._shown_views: OrderedDict[str, bool] = OrderedDict()
        self._outputs = PanelOutputs(self._bundle, lambda: manager.snapshot)
        super().__init__()
        self.on_msg(self._receive)
        _keep_subshell(self.comm)
        self._ends = (manager.subscribe(self._publish), self._outputs.close)
        self._publish(manager.snapshot)  # changes between the first snapshot and the subscription

    @property
    def state(self) -> messages.PanelState:
        """The state as of the last message. Readable from any thread."""
        return self._feed.state

    @property
    def is_open(self) -> bool:
        """Whether pages can reach it: neither the kernel (`Widget.close_all()`) nor a front end has closed its comm."""
        return self.comm is not None and not getattr(self.comm, "_closed", False)

    @override
    def close(self) -> None:
        """Ends the subscription and closes every view. The downloads continue."""
        for end in self._ends:
            end()
        super().close()

    def _ipython_display_(self, **_kwargs: object) -> None:
        self._outputs.show()

    def _bundle(self, caption: str) -> Bundle:
        live = None if self.comm is None else super()._repr_mimebundle_()
        data, metadata = live or ({}, {})
        return data | static_bundle(self.manager.snapshot, caption), metadata

    @override
    def _repr_mimebundle_(self, **_kwargs: Any) -> Bundle | None:
        return self._bundle(rows.still_text(time.time()))

    # To the page ---------------------------------------------------------------------------------------------------

    def _publish(self, snapshot: QueueSnapshot) -> None:
        self._outputs.follow(snapshot)
        with self._publishing:
            # A page that has just opened has not reported its visibility yet.
            is_watched = not self._shown_views or any(self._shown_views.values())
            self._send_changes(snapshot, counts=is_watched and time.monotonic() >= self._due_s)

    def _send_changes(self, snapshot: QueueSnapshot, *, counts: bool) -> None:
        if (changes := self._feed.advance(snapshot, counts=counts)) is not None:
            self._due_s = time.monotonic() + self._pace_s
            self.send(messages.plain(changes))

    # From the page -------------------------------------------------------------------------------------------------

    def _receive(self, _widget: object, content: object, _buffers: object) -> None:
        cid = content.get("cid") if isinstance(content, dict) else None
        if not isinstance(cid, str):
            _log.warning("The panel's page sent a message without an id, so it cannot be answered.")
            return
        self._outputs.page_answered()
        try:
            self._handle(messages.parse_request(content))
        except Exception as error:  # noqa: BLE001 - a page that gets no answer asks again
            self._refuse(cid, error)

    def _handle(self, request: messages.Request) -> None:
        match request:
            case messages.Sync():
                with self._publishing:
                    self._send_changes(self.manager.snapshot, counts=True)
                    state = None if request.seq == self._feed.state.seq else self.state
                    self._reply(messages.Reply(cid=request.cid, result=state))  # before any later changes
            case messages.SetVisible():
                with self._publishing:
                    self._shown_views[request.view] = request.is_shown
                    self._shown_views.move_to_end(request.view)
                    if len(self._shown_views) > _MOST_VIEWS:  # a page that reloads reports no closed view
                        self._shown_views.popitem(last=False)
                self._reply(messages.Reply(cid=request.cid))
            case _:
                self._execute(request)

    def _execute(self, request: messages.Request) -> None:
        """Executes a request once; if it is sent again, its answer is, too."""

        def send(text: str) -> None:
            self.send(messages.plain(messages.Progress(request.cid, text)))

        with self._requesting:
            known = self._requests.get(request.cid)
            future = known or self.manager.submit(actions.act, self.manager.sync, request, send)
            self._requests[request.cid] = future
            if len(self._requests) > _MOST_REQUESTS:
                self._requests.popitem(last=False)
        if known is None:
            future.add_done_callback(partial(self._answer, request.cid))
        elif known.done():
            self._answer(request.cid, known)

    def _answer(self, cid: str, future: "Future[Any]") -> None:
        try:
            self._reply(messages.Reply(cid=cid, result=future.result()))
        except Exception as error:  # noqa: BLE001 - as above
            self._refuse(cid, error)

    def _refuse(self, cid: str, error: Exception) -> None:
        if isinstance(error, GglibError):
            text = redacted(str(error))
        else:
            _log.error("A request of the panel failed.", exc_info=error)
            # The message of a foreign error could contain a token; its class name cannot.
            text = f"The kernel could not do that ({type(error).__name__}). Its log has the details."
        alternatives = error.alternatives if isinstance(error, NoGgufFilesError) else ()
        self._reply(messages.Reply(cid=cid, error=text, alternatives=tuple(alternatives)))

    def _reply(self, reply: messages.Reply) -> None:
        self.send(messages.plain(reply))


def _keep_subshell(comm: object) -> None:
    """Keeps every message of the page on the subshell that the page chose for it.

    JupyterLab sends a widget's messages to a subshell, which handles them while a cell runs. ipykernel 7.4 sends
    replies to the shell that published last: after the queue's thread, that is the main shell, and a click would wait
    for the cell.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, chosen: chosen  # noqa: SLF001 - there is no public way
