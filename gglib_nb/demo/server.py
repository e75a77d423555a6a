"""One origin on loopback: accepts connections and keeps a thread for each until it is stopped.

HTTP/1.1 with keep-alive on blocking sockets. Which answer a request gets is asked of a function, how it leaves
is `sending`; nothing here knows a route, a repository or a fault.
"""

import contextlib
import itertools
import socket
import ssl
from collections.abc import Callable
from threading import Lock, Thread

from gglib_nb.demo.messages import Origin, Request, Response, read_request
from gglib_nb.demo.request_log import RequestLog
from gglib_nb.demo.sending import Line, send
from gglib_nb.demo.throttle import Throttle

_BACKLOG = 256
_CONNECTION_IDS = itertools.count(1)


class OriginServer:
    """A server for one origin; it listens when it is made and serves from `start` on.

    Args:
        origin: its name in the log.
        port: where to listen on 127.0.0.1; 0 takes a free port.
        answer: makes the response to a request.
        log: told of every request.
        limits: called for each new connection; gives its own limit and the one it shares with all.
        tls: the certificate to speak HTTPS with; `None` means plain HTTP.
    """

    def __init__(
        self,
        origin: Origin,
        port: int,
        answer: Callable[[Request], Response],
        log: RequestLog,
        limits: Callable[[], tuple[Throttle, Throttle]],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._origin = origin
        self._answer = answer
        self._log = log
        self._limits = limits
        self._tls = tls
        self._lock = Lock()
        self._sockets: set[socket.socket] = set()
        self._is_stopped = False
        self._listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
        self._acceptor = Thread(target=self._accept, name=f"demo-{origin}", daemon=True)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """The origin, without a slash at its end."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Accept connections in a background thread."""
        self._acceptor.start()

    def stop(self) -> None:
        """Stop listening and close all connections at once."""
        with self._lock:
            self._is_stopped = True
        # A connection of our own wakes `accept` on every system; closing the listener does not.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        if self._acceptor.is_alive():
            self._acceptor.join(1)
        self._listener.close()
        self.drop_connections()

    def drop_connections(self) -> None:
        """Close all connections at once; what is under way is cut."""
        with self._lock:
            for connected in self._sockets:
                with contextlib.suppress(OSError):
                    # Past `SSLSocket.shutdown`, which would let its thread go on without TLS.
                    socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_stopped:
                    connected.close()
                    return
                self._sockets.add(connected)
            Thread(target=self._serve, args=(connected,), name=f"demo-{self._origin}-connection", daemon=True).start()

    def _serve(self, connected: socket.socket) -> None:
        # A client may leave at any moment, or not trust us; that ends its connection and is nobody's error.
        with contextlib.suppress(OSError), connected:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                self._converse(connected)
            else:
                with self._tls.wrap_socket(connected, server_side=True) as secured:
                    self._swap(connected, secured)
                    self._converse(secured)
                connected = secured
        with self._lock:
            self._sockets.discard(connected)

    def _swap(self, plain: socket.socket, secured: socket.socket) -> None:
        """The plain socket is empty now; `drop_connections` has to find the one that holds the connection."""
        with self._lock:
            self._sockets.discard(plain)
            self._sockets.add(secured)

    def _converse(self, connected: socket.socket) -> None:
        connection_id = next(_CONNECTION_IDS)
        line = Line(connected, *self._limits())
        with connected.makefile("rb") as stream:
            while (request := read_request(stream, self._origin, connection_id)) is not None:
                if not self._exchange(line, request):
                    break

    def _exchange(self, line: Line, request: Request) -> bool:
        """Answer one request; whether the connection can be used for another."""
        number = self._log.start(request)
        is_whole = False
        try:
            response = self._answer(request)
            self._log.answer(number, response.status, response.subject)
            is_whole = send(line, request, response, lambda size_bytes: self._log.sent(number, size_bytes))
        finally:
            self._log.end(number, is_whole=is_whole)
        wants_close = request.headers.get("connection", "").lower() == "close"
        return is_whole and response.delivery.framing != "close" and not wants_close
