"""A light host: a real widget in this process, connected to a real page in Chromium, without Jupyter between them.

It does what a front end does for an anywidget (one model, any number of views, custom messages both ways), so most
of the panel can be tested in milliseconds. Jupyter's own behaviour is tested in Jupyter.
"""

import json
import queue
import time
from collections.abc import Callable
from typing import Any

import anywidget
import comm
from comm.base_comm import BaseComm
from playwright.sync_api import Page
from typing_extensions import override

_HOST = """
class Model {
  constructor(state) { this.state = state; this.handlers = {}; this.saves = 0; this.widget_manager = {}; }
  get(name) { return this.state[name]; }
  set(name, value) { this.state[name] = value; this.emit("change:" + name, value); }
  save_changes() { this.saves += 1; }
  send(content) { window.toKernel(JSON.stringify({ method: "custom", content })); }
  on(event, handler) { (this.handlers[event] ??= []).push(handler); }
  off(event, handler) { this.handlers[event] = (this.handlers[event] ?? []).filter((known) => handler && known !== handler); }
  emit(event, ...values) { for (const handler of this.handlers[event] ?? []) handler(...values); }
}
// Versions of anywidget before 0.10.1 give no signal; all call the function that a hook returns.
window.mount = async (module, css, state, hasSignal) => {
  window.signalOf = (controller) => (hasSignal ? { signal: controller.signal } : {});
  const style = document.head.appendChild(document.createElement("style"));
  style.textContent = css;
  const url = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
  window.widget = (await import(url)).default();
  window.model = new Model(state);
  await window.widget.initialize?.({ model: window.model, ...signalOf(new AbortController()) });
};
window.show = async () => {
  const el = document.body.appendChild(document.createElement("div"));
  const closing = new AbortController();
  const cleanup = await window.widget.render({ model: window.model, el, ...signalOf(closing) });
  (window.views ??= []).push(() => { closing.abort(); cleanup?.(); el.remove(); });
};
window.fromKernel = (message) => {
  if (message.method === "custom") window.model.emit("msg:custom", message.content, []);
  else for (const [name, value] of Object.entries(message.state)) window.model.set(name, value);
};
"""


class _BridgeComm(BaseComm):
    """Carries the widget's messages to the host instead of to a kernel's socket."""

    outbox: "queue.SimpleQueue[dict[str, Any]] | None" = None

    @override
    def publish_msg(
        self,
        msg_type: str,
        data: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        buffers: list[bytes] | None = None,
        **keys: Any,
    ) -> None:
        if self.outbox is not None and msg_type == "comm_msg":
            self.outbox.put(json.loads(json.dumps(data)))


class LightHost:
    """One widget on one page.

    Attributes:
        widget: The real widget.
        page: The real page.
        sent: Every custom message from the page.
        received: Every custom message to the page.
        is_answering: While False, the page's messages stay unread, as when a cell blocks the kernel.
    """

    def __init__(self, page: Page, make: Callable[[], anywidget.AnyWidget], *, has_signal: bool = True) -> None:
        self.page = page
        self.sent: list[dict[str, Any]] = []
        self.received: list[dict[str, Any]] = []
        self.is_answering = True
        self._unread: list[dict[str, Any]] = []
        self._outbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.widget = _with_bridge(make)
        self.widget.comm.outbox = self._outbox
        # A real address, because only such a page has a clipboard and a base for links.
        page.route("http://localhost/", lambda route: route.fulfill(body="<!doctype html><title>host</title><body>"))
        page.goto("http://localhost/")
        page.expose_function("toKernel", self._from_page)
        page.add_script_tag(content=_HOST)
        state = self.widget.get_state()
        arguments = [state.pop("_esm"), state.pop("_css"), state, has_signal]
        page.evaluate("arguments => mount(...arguments)", arguments)
        self.show()

    def show(self) -> None:
        """Opens another view of the model."""
        self.page.evaluate("show()")
        self.pump()

    def pump(self) -> None:
        """Delivers the widget's messages to the page until none is pending."""
        # Exposed functions run on this thread whenever Playwright does; a round trip delivers pending messages.
        while self.page.evaluate("1") and not self._outbox.empty():
            message = self._outbox.get_nowait()
            if message["method"] == "custom":
                self.received.append(message["content"])
            self.page.evaluate("message => fromKernel(message)", message)
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def lose(self) -> None:
        """Drops pending messages to the page, as an overloaded server does."""
        while not self._outbox.empty():
            self._outbox.get_nowait()

    def until(self, holds: Callable[[], bool], what: str, deadline_s: float = 60.0) -> None:
        """Delivers the widget's messages to the page until this holds."""
        until_s = time.monotonic() + deadline_s
        while not holds():
            assert time.monotonic() < until_s, f"not within {deadline_s} s: {what}"
            self.pump()

    def hear(self, kind: str) -> None:
        """Waits until the page has sent a request of this kind, or for this kind of list, and delivers the answer."""
        asked = ("kind", "what")
        self.until(
            lambda: any(kind == message.get(one) for message in self.sent for one in asked), f"the page sends {kind!r}"
        )
        self.pump()

    def answer(self) -> None:
        """The cell has ended: handles the messages that the page sent in the meantime."""
        self.is_answering = True
        unread, self._unread = self._unread, []
        for data in unread:
            self._handle(data)
        self.pump()

    def disconnect(self) -> None:
        """JupyterLab's handling of a widget when the kernel ends: a class on the view, and an event."""
        self.page.evaluate(
            """() => {
              for (const panel of document.querySelectorAll(".gglib-panel")) panel.parentElement.classList.add("jupyter-widgets-disconnected");
              model.emit("comm_live_update");
            }"""
        )
        self.pump()

    def _from_page(self, text: str) -> None:
        data = json.loads(text)
        self.sent.append(data["content"])
        if self.is_answering:
            self._handle(data)
        else:
            self._unread.append(data)

    def _handle(self, data: dict[str, Any]) -> None:
        self.widget._handle_msg({"content": {"data": data}, "buffers": []})


def _with_bridge(make: Callable[[], anywidget.AnyWidget]) -> Any:
    create, comm.create_comm = comm.create_comm, _BridgeComm
    try:
        return make()
    finally:
        comm.create_comm = create
