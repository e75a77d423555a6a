"""One origin on loopback: accepts connections and serves each on a thread until it is stopped.

HTTP/1.1 with keep-alive on blocking sockets; answers are sent in slices at the allowed speed. It knows no routes.
"""

import contextlib
import itertools
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from threading import Event, Lock, Thread

from gglib_nb.demo.content import SLICE_BYTES
from gglib_nb.demo.messages import Request, Response, read_request
from gglib_nb.demo.throttle import Throttle

_BACKLOG = 256
_CONNECTION_IDS = itertools.count(1)


@dataclass(eq=False)
class Line:
    """A connection with the limits on its speed; more can be added while it is used."""

    socket: socket.socket
    limits: list[Throttle]

    def slice_bytes(self) -> int:
        """How many bytes to send at a time for an even flow."""
        return min(limit.slice_bytes(SLICE_BYTES) for limit in self.limits)

    def wait_for(self, size_bytes: int) -> None:
        """Wait until the limits allow this many bytes."""
        for limit in self.limits:
            limit.take(size_bytes)


def send(line: Line, request: Request, response: Response) -> bool:
    """Send an answer; a HEAD gets no body.

    Returns:
        Whether it was sent completely, so that the connection can be used again.

    Raises:
        OSError: the client has disconnected.
    """
    line.socket.sendall(head(response, {"Content-Length": str(response.length)}))
    end = response.offset + (0 if request.method == "HEAD" else response.length)
    offset = response.offset
    while offset < end:
        piece = response.content.read(offset, min(line.slice_bytes(), end - offset))
        if not piece:
            return False
        if response.subject is not None:
            line.wait_for(len(piece))
        line.socket.sendall(piece)
        offset += len(piece)
    return True


def head(response: Response, framing: Mapping[str, str]) -> bytes:
    """The status line and the headers, with those of `framing` that the response does not set itself."""
    headers = {"Date": formatdate(usegmt=True), **framing, **response.headers}
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class OriginServer:
    """A server for one origin; it listens once created and serves from `start` on.

    Args:
        origin: its name.
        port: the port on 127.0.0.1; 0 selects a free one.
        answer: sends the response to a request; returns whether the connection can be used for another.
        limit: the speed of all its connections together.
        tls: the certificate for HTTPS; `None` means plain HTTP.
    """

    def __init__(
        self,
        origin: str,
        port: int,
        answer: Callable[[Line, Request], bool],
        limit: Throttle,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._origin = origin
        self._answer = answer
        self._limit = limit
        self._lock = Lock()
        self._sockets: set[socket.socket] = set()
        self._stopped = Event()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        if tls is not None:
            # The thread of a connection does the handshake at its first read, so that a slow client delays no other.
            self._listener = tls.wrap_socket(self._listener, server_side=True, do_handshake_on_connect=False)
        self._acceptor = Thread(target=self._accept, name=f"demo-{origin}", daemon=True)

    def start(self) -> None:
        """Accept connections in a background thread."""
        self._acceptor.start()

    def stop(self) -> None:
        """Stop listening and close all connections at once."""
        with self._lock:
            self._stopped.set()
        # A connection of our own wakes `accept` on every system; closing the listener does not.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        if self._acceptor.is_alive():
            self._acceptor.join(1)
        self._listener.close()
        self.drop_connections()

    def drop_connections(self) -> None:
        """Close all connections at once; answers in progress are cut off."""
        with self._lock:
            for connected in self._sockets:
                with contextlib.suppress(OSError):
                    # Not `SSLSocket.shutdown`, which would let its thread continue without TLS.
                    socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connected, _ = self._listener.accept()
            except OSError:
                continue  # its client has already disconnected
            with self._lock:
                if self._stopped.is_set():
                    connected.close()
                    return
                self._sockets.add(connected)
            Thread(target=self._serve, args=(connected,), name=f"demo-{self._origin}-connection", daemon=True).start()

    def _serve(self, connected: socket.socket) -> None:
        # A client may disconnect at any moment, or reject the certificate; that ends its connection without an error.
        with contextlib.suppress(OSError), connected:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._converse(connected)
        with self._lock:
            self._sockets.discard(connected)

    def _converse(self, connected: socket.socket) -> None:
        connection_id = next(_CONNECTION_IDS)
        line = Line(connected, [self._limit])
        with connected.makefile("rb") as stream:
            while (request := read_request(stream, self._origin, connection_id)) is not None:
                wants_close = request.headers.get("connection", "").lower() == "close"
                if not self._answer(line, request) or wants_close:
                    break
