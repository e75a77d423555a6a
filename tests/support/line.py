"""A TCP line to one server that can be refused, reset, silenced or slowed while it is in use, as real lines are.

It knows bytes only. One `mode` at a time decides what happens to them, for open and new connections.
"""

import contextlib
import socket
import ssl
import struct
import threading
from enum import StrEnum
from typing import Self
from urllib.parse import urlsplit

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_TRICKLE_S = 0.1


class Mode(StrEnum):
    """The line's behaviour."""

    OPEN = "open"
    REFUSED = "refuses connections"
    RESET = "resets every connection"
    SILENT = "accepts connections and drops all data"
    TRICKLE = "lets ten bytes a second through, on every connection that stands"
    TRICKLE_ONE = "limits one open connection to ten bytes per second"


class Line:
    """One line on its own loopback port. A context manager.

    Args:
        server_url: The server behind it.
        tls: The line uses TLS with this certificate; None: plain.
    """

    def __init__(self, server_url: str, tls: ssl.SSLContext | None = None) -> None:
        self._server = ("127.0.0.1", urlsplit(server_url).port or 0)
        self._tls = tls
        self._changed = threading.Condition()
        self._mode = Mode.OPEN
        self._is_closed = False
        self._sockets: list[socket.socket] = []
        self._slowed: list[socket.socket] = []
        self._place = _bound()
        self.port: int = self._place.getsockname()[1]
        self._listener = self._listen()

    @property
    def url(self) -> str:
        """Its origin, as a client requests it."""
        return f"http://127.0.0.1:{self.port}" if self._tls is None else f"https://localhost:{self.port}"

    def set(self, mode: Mode) -> None:
        """Change its behaviour now."""
        with self._changed:
            before, self._mode = self._mode, mode
            # The client's end of each pair. Later connections are not slowed: their headers alone would take a minute.
            clients = self._sockets[::2]
            self._slowed = {Mode.TRICKLE: clients, Mode.TRICKLE_ONE: clients[:1]}.get(mode, [])
            self._changed.notify_all()
        if mode in (Mode.REFUSED, Mode.RESET):
            self._reset_all()
        if mode is Mode.REFUSED:
            self._close_listener()
        elif before is Mode.REFUSED:
            self._listener = self._listen()

    def close(self) -> None:
        """Close it and all its connections."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._close_listener()
        self._reset_all()
        self._place.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=64, reuse_port=True)
        threading.Thread(target=self._accept, args=(listener,), name="line", daemon=True).start()
        return listener

    def _close_listener(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _reset_all(self) -> None:
        with self._changed:
            sockets, self._sockets = self._sockets, []
        for one in sockets:
            _reset(one)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                listener.close()
                return
            threading.Thread(target=self._connect, args=(client,), name="line", daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        if self._mode is Mode.RESET or self._is_closed:
            _reset(client)
            return
        try:
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            server = socket.create_connection(self._server)
        except OSError:
            client.close()
            return
        with self._changed:
            self._sockets += [client, server]
        upward = threading.Thread(target=self._pump, args=(client, server), daemon=True)
        upward.start()
        self._pump(server, client)
        upward.join()
        with self._changed:
            self._sockets = [one for one in self._sockets if one not in (client, server)]
        client.close()
        server.close()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._send(target, data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    def _send(self, target: socket.socket, data: bytes) -> None:
        while data:
            with self._changed:
                while self._mode is Mode.SILENT and not self._is_closed:
                    self._changed.wait()
                slows = target in self._slowed
                if slows:
                    self._changed.wait(_TRICKLE_S)
            count = 1 if slows else len(data)
            target.sendall(data[:count])
            data = data[count:]


def _bound() -> socket.socket:
    """A socket that keeps a port for its owner, also while nothing listens there."""
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    place.bind(("127.0.0.1", 0))
    return place


def _reset(one: socket.socket) -> None:
    """Close with a reset, even if another thread uses the socket."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    with contextlib.suppress(OSError):
        socket.socket.shutdown(one, socket.SHUT_RDWR)
    one.close()
