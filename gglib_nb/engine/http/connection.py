"""One connection for ranged reads: ask, then read the body into the caller's buffer.

Two ways in one form. `DirectConnection` is the standard library's `http.client`, kept alive from range to
range: `readinto` costs a third of the CPU of an iterator of byte strings. `ClientConnection` is httpx, for what the
first cannot do: proxies, encodings, unknown lengths. Neither knows files, ranges or retries. One
thread uses a connection; only `abort` may be called from another.
"""

import contextlib
import http.client
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from gglib_nb.domain.hub_answers import proxy_refusal
from gglib_nb.engine.http.errors import STALLED, LineError, line_error
from gglib_nb.engine.http.session import Session, origin_of
from gglib_nb.network.dialing import connect

if TYPE_CHECKING:
    from gglib_nb.network.http_library import httpx

_CLIENT_CHUNK_BYTES = 64 * 1024


class Answer(Protocol):
    """The head of an answer, and its body to be read.

    Attributes:
        status: HTTP status.
        headers: Names in lower case.
    """

    status: int
    headers: Mapping[str, str]

    def readinto(self, view: memoryview) -> int:
        """Read as many bytes as the view holds, waiting for them; fewer only at the end, 0 there. Raises `LineError`."""

    def readinto1(self, view: memoryview) -> int:
        """Read what has come, at most what the view holds, waiting for one byte; 0 at the end. Raises `LineError`.

        Costs a copy more than `readinto`, so it is for lines on which a whole view takes long.
        """

    def finish(self) -> None:
        """The caller has read all it wants; the connection is kept if the body is at its end."""


class Connection(Protocol):
    """A way to get one answer after the other."""

    def ask(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Send a GET and return the head of its answer. Raises `LineError`, or `InvalidConfigError` where waiting is in vain."""

    def abort(self) -> None:
        """End what is under way; called from another thread."""

    def narrow(self, buffer_bytes: int) -> None:
        """Let the system take no more than about so much from the line ahead of what is read."""

    def close(self) -> None:
        """Let go of the connection."""


def _shut(sock: socket.socket | None) -> None:
    if sock is not None:
        with contextlib.suppress(OSError):
            # Past `SSLSocket.shutdown`, which would let a reader in another thread go on without TLS.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _DirectAnswer:
    def __init__(self, connection: "DirectConnection", response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.getheaders()}
        self._connection = connection
        self._response = response

    def readinto(self, view: memoryview) -> int:
        return self._read(self._response.readinto, view)

    def readinto1(self, view: memoryview) -> int:
        return self._read(self._response.readinto1, view)

    @staticmethod
    def _read(read: Callable[[memoryview], int], view: memoryview) -> int:
        try:
            return read(view)
        except TimeoutError as error:
            raise LineError(STALLED) from error
        except (OSError, http.client.HTTPException) as error:
            raise line_error(error, "") from error

    def finish(self) -> None:
        if self._response.length == 0:
            self._response.close()  # `readinto1` leaves that to us, and only then the connection can be used again
        if not self._response.isclosed():
            self._connection.close()


class DirectConnection:
    """`http.client`, kept alive while the next URL is on the same origin."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._origin: tuple[str, str, int | None] | None = None
        self._http: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None

    def ask(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Send a GET; a kept connection that the server has closed meanwhile is replaced once."""
        parts = urlsplit(url)
        origin = origin_of(parts)
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        try:
            if self._http is not None and self._origin == origin:
                with contextlib.suppress(ConnectionError, http.client.RemoteDisconnected, http.client.BadStatusLine):
                    return self._exchange(self._http, path, headers)
            self.close()
            self._origin = origin
            return self._exchange(self._connect(origin), path, headers)
        except (OSError, http.client.HTTPException) as error:
            is_connected = self._socket is not None
            self.close()
            if is_connected and isinstance(error, TimeoutError):
                raise LineError(STALLED) from error
            raise line_error(error, url) from error

    def abort(self) -> None:
        """End what is under way; the reading thread meets the end of the stream."""
        _shut(self._socket)

    def narrow(self, buffer_bytes: int) -> None:
        """Bound the system's receive buffer."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)

    def close(self) -> None:
        """Let go of the connection."""
        if self._http is not None:
            self._http.close()
        if self._socket is not None:
            self._socket.close()
        self._http = self._socket = self._origin = None

    def _connect(self, origin: tuple[str, str, int | None]) -> http.client.HTTPConnection:
        scheme, host, port = origin
        timeout_s = self._session.timeouts.connect_s
        if scheme == "https":
            made: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, context=self._session.tls)
        else:
            made = http.client.HTTPConnection(host, port)
        self._http = made
        dialled = connect(host, port or made.default_port, timeout_s)
        try:
            if scheme == "https":
                dialled = self._session.tls.wrap_socket(dialled, server_hostname=host)
        except BaseException:
            dialled.close()
            raise
        made.sock = self._socket = dialled
        dialled.settimeout(self._session.timeouts.answer_s)
        return made

    def _exchange(self, connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]) -> Answer:
        connection.request("GET", path, headers=dict(headers))
        return _DirectAnswer(self, connection.getresponse())


class _ClientAnswer:
    def __init__(self, response: "httpx.Response") -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        self._response = response
        self._chunks: Iterator[bytes] = (
            response.iter_bytes() if "content-encoding" in response.headers else response.iter_raw(_CLIENT_CHUNK_BYTES)
        )
        self._rest = memoryview(b"")

    def readinto(self, view: memoryview) -> int:
        return self.readinto1(view)  # its chunks are small

    def readinto1(self, view: memoryview) -> int:
        from gglib_nb.network.http_library import httpx

        try:
            while not self._rest:
                self._rest = memoryview(next(self._chunks))
        except StopIteration:
            return 0
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise line_error(error, "") from error
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def finish(self) -> None:
        self._response.close()


class ClientConnection:
    """httpx: slower, and at home with proxies, encodings and bodies of unknown length."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._response: httpx.Response | None = None

    def ask(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Send a GET through the shared client."""
        from gglib_nb.network.http_library import httpx

        self.close()
        client = self._session.client
        try:
            self._response = client.send(client.build_request("GET", url, headers=dict(headers)), stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise line_error(error, url) from error
        if self._response.status_code == 407:
            raise proxy_refusal(urlsplit(url).netloc, 407)
        return _ClientAnswer(self._response)

    def abort(self) -> None:
        """End what is under way."""
        if self._response is not None:
            stream = self._response.extensions.get("network_stream")
            _shut(stream.get_extra_info("socket") if stream is not None else None)

    def narrow(self, buffer_bytes: int) -> None:
        """Nothing: the pool's connections are shared."""

    def close(self) -> None:
        """End the present answer."""
        if self._response is not None:
            self._response.close()
            self._response = None
