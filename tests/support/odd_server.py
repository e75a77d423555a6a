"""A server whose every byte the test writes: it passes each connection to a function."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

Serve = Callable[[socket.socket], None]


class OddServer:
    """Listens on loopback while it is entered.

    Args:
        *serve: The first function serves the first connection, and so on; the last one serves all others. An exception
            ends a connection.

    Attributes:
        requests: The headers of all requests read by `ask`, in order.
        connections: The number of accepted connections.
    """

    def __init__(self, *serve: Serve, host: str = "127.0.0.1") -> None:
        self._serve = serve
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self.requests: list[str] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._threads.append(threading.Thread(target=self._accept, daemon=True))
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)

    @property
    def threads(self) -> set[threading.Thread]:
        """Its own threads."""
        return set(self._threads)

    def ask(self, connection: socket.socket) -> str:
        """The header of the next request on a connection; raises if it was closed."""
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(65536)
            if not piece:
                raise ConnectionError("closed")
            head += piece
        self.requests.append(head.decode())
        return self.requests[-1]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                serve = self._serve[min(self.connections, len(self._serve) - 1)]
                self.connections += 1
                self._open.append(connection)
                thread = threading.Thread(target=self._run, args=(serve, connection), daemon=True)
                self._threads.append(thread)
                thread.start()

    @staticmethod
    def _run(serve: Serve, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            serve(connection)


def answering(server: "list[OddServer]", *answers: bytes) -> Serve:
    """Answers the requests of one connection in order, then closes it. `server` contains the server once created."""

    def serve(connection: socket.socket) -> None:
        for answer in answers:
            server[0].ask(connection)
            connection.sendall(answer)

    return serve


def response(status: str = "200 OK", body: bytes = b"", **headers: str) -> bytes:
    """A response with its length, unless the headers override it (`content_length=""` omits it)."""
    fields = {"content-length": str(len(body))} | {name.replace("_", "-"): text for name, text in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {text}" for name, text in fields.items() if text)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
