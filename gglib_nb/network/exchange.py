"""HTTP exchanges over kept connections, for the hub client and the engine.

`http.client`'s responses over streams of `tunnels`, with a deadline for each head and a bound on every unwanted body.
Follows no redirects. Knows no hub, no files, no tokens.
"""

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from gglib_nb.domain.http_rules import Origin, host_text, origin_of
from gglib_nb.network.proxies import Proxies, Proxy
from gglib_nb.network.tls import tls_context
from gglib_nb.network.tunnels import DeadlineReader, Stream, login_of, open_stream, read_head, request_head
from gglib_nb.system import clock_s

# An unwanted body is read up to this length to keep its connection; after that the connection is closed.
_DISCARDED_BYTES: Final = 64 * 1024
_DISCARD_S: Final = 1.0
# A router may have dropped a connection that was idle for longer, also in sleep, which shows only after a timeout.
_IDLE_S: Final = 30.0
# The errors of a kept connection that the server has closed.
_SIGNS_OF_DEATH: Final = (ConnectionError, http.client.BadStatusLine, ssl.SSLError)

Route = tuple[Origin, Proxy | None]
"""Where a connection goes, and the proxy it goes through."""


def route_to(url: str, proxies: Proxies) -> Route:
    """The route to an address; raises `ValueError` for an impossible one, `InvalidConfigError` for its proxy."""
    proxy = proxies.for_url(url)
    return origin_of(url), None if proxy is None else Proxy.at(proxy)


class KeptConnection:
    """One connection, kept alive between requests. One thread uses it; only `abort` may be called from another."""

    def __init__(self) -> None:
        self.route: Route | None = None  # None: it is closed
        self.has_opened = False  # False: the last request found no way to the server
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_aborted = False
        self._stream: Stream | None = None
        self._reader: DeadlineReader | None = None
        self._used_s = 0.0

    def exchange(
        self, route: Route, method: str, url: str, headers: Mapping[str, str], connect_s: float, answer_s: float
    ) -> http.client.HTTPResponse:
        """Send a request and read the head of its answer; a kept connection closed by the server is replaced once.

        Raises `OSError`, `HTTPException`, `UnicodeError`, and for certificates or a proxy `InvalidConfigError`.
        """
        if self.route != route or clock_s() - self._used_s >= _IDLE_S:
            self.close()
        while True:
            self.has_opened = is_kept = self._stream is not None
            try:
                stream = self._stream = self._stream or open_stream(*route, tls_context, connect_s, self._own)
                self.has_opened, self.route = True, route
                stream.settimeout(answer_s)
                self._reader = reader = DeadlineReader(stream, time.monotonic() + answer_s)
                stream.sendall(_request_bytes(method, url, route, headers))
                response = read_head(reader, method)
            except BaseException as error:
                self.close()
                if not is_kept or self._is_aborted or not isinstance(error, _SIGNS_OF_DEATH):
                    raise
            else:
                reader.deadline_s = None
                stream.settimeout(answer_s)
                return response

    def _own(self, connected: socket.socket) -> None:
        with self._lock:
            self._socket = connected
            if self._is_aborted:
                raise ConnectionAbortedError("aborted")

    def release(self, response: http.client.HTTPResponse) -> None:
        """Read the rest of a body, within bounds, so that the connection can be reused; else close it."""
        is_over = False
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            if self._reader is not None:
                self._reader.deadline_s = time.monotonic() + _DISCARD_S
            if not response.will_close and (response.length or 0) <= _DISCARDED_BYTES:
                response.read(_DISCARDED_BYTES)
                is_over = response.isclosed()
        response.close()
        self._used_s = clock_s()
        if not is_over or self._is_aborted:
            self.close()

    def abort(self) -> None:
        """Stop permanently: the request in progress and later ones raise an error. From any thread; never blocks."""
        with self._lock:
            self._is_aborted = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    # Not `SSLSocket.shutdown`, which would let a reader in another thread continue without TLS.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        with self._lock:
            self._socket = None
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
        self._stream = self._reader = self.route = None


class ConnectionPool:
    """Connections that wait for their next request. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[KeptConnection] = []
        self._count = 0  # including those in use
        self._is_closed = False

    def take(self, route: Route) -> KeptConnection:
        """An idle connection of this route, or a new one; the caller gives it back or discards it."""
        with self._lock:
            for one in reversed(self._idle):
                if one.route == route:
                    self._idle.remove(one)
                    return one
            self._count += 1
            return KeptConnection()

    def give_back(self, connection: KeptConnection, response: http.client.HTTPResponse) -> None:
        """Release a response, and keep its connection for the next request."""
        connection.release(response)
        with self._lock:
            self._idle.append(connection)
        if self._is_closed:
            self.close_idle()

    def discard(self, connection: KeptConnection) -> None:
        """Close a connection: what its request left unread would be the next answer."""
        with self._lock:
            self._count -= 1
        connection.close()

    def close_idle(self) -> bool:
        """Close the idle connections; False if there were none, and none is in use."""
        with self._lock:
            has_connections, idle, self._idle = self._count > 0, self._idle, []
            self._count -= len(idle)
        for one in idle:
            one.close()
        return has_connections

    def close(self) -> None:
        """Close the idle connections, and from now on each one after its request."""
        self._is_closed = True
        self.close_idle()


def headers_of(response: http.client.HTTPResponse) -> Mapping[str, str]:
    """An answer's headers, names in lower case."""
    return {name.lower(): text for name, text in response.getheaders()}


def _request_bytes(method: str, url: str, route: Route, headers: Mapping[str, str]) -> bytes:
    parts, (origin, proxy) = urlsplit(url), route
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    host = host_text((origin[0], re.sub(r"%25.*", "", origin[1]), origin[2]))
    if proxy is not None and not proxy.is_socks and origin[0] == "http":
        target, headers = f"http://{host}{target}", {**headers, **login_of(proxy)}
    return request_head(f"{method} {target}", {"Host": host, **headers})
