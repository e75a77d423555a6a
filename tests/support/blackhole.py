"""An address on this machine that accepts a connection's first packet and never answers, like unreachable IPv6."""

import socket
from contextlib import ExitStack
from typing import Self


class Blackhole:
    """A listener on `::1` with a full backlog; connections to its port wait until the client gives up.

    Args:
        port: The port; that of a server on 127.0.0.1, say.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._open = ExitStack()

    def __enter__(self) -> Self:
        listener = self._open.enter_context(socket.socket(socket.AF_INET6))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::1", self.port))
        listener.listen(0)
        filler = self._open.enter_context(socket.socket(socket.AF_INET6))
        filler.connect(("::1", self.port))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def dual_stack(monkeypatch: object, name: str) -> None:
    """Give a name two addresses, `::1` first and then 127.0.0.1, like most of the Hub's."""
    known = socket.getaddrinfo

    def resolve(host: object, port: object, *args: object, **options: object) -> list[object]:
        if host not in {name, name.encode()}:
            return known(host, port, *args, **options)  # type: ignore[arg-type,return-value]  # as it came
        kind = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(socket.AF_INET6, *kind, ("::1", port, 0, 0)), (socket.AF_INET, *kind, ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)  # type: ignore[attr-defined]  # pytest's own
