"""HTTP for the hub and its CDN: session settings, kept connections, checked answers, errors of one exchange.

`http.client`'s responses over streams of `network.tunnels`, with a deadline for each exchange and a bound on every
unwanted body. It returns an answer only once the head shows that the body is the requested one. Decides nothing else.
"""

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from gglib_nb.domain.http_rules import (
    REDIRECT_STATUSES,
    TRANSIENT_STATUSES,
    Origin,
    asked_wait_s,
    content_range,
    contradict,
    has_expired,
    host_text,
    is_encoded,
    is_web_page,
    origin_of,
    size_in,
    web_address,
)
from gglib_nb.domain.hub_answers import Asked, certificate_refusal, proxy_refusal
from gglib_nb.domain.names import modelscope_name
from gglib_nb.domain.text import INVALID_CHARACTER, can_be_sent, printable, redacted
from gglib_nb.domain.values import Value
from gglib_nb.engine.protocol import Configure
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import GglibError, InvalidConfigError, InvalidTokenError, RemoteChangedError
from gglib_nb.network.proxies import Proxy, is_final, proxy_for
from gglib_nb.network.tls import tls_context
from gglib_nb.network.tunnels import (
    DeadlineReader,
    ProxyRefusedError,
    Stream,
    login_of,
    open_stream,
    read_head,
    request_head,
)
from gglib_nb.system import clock_s

REFUSED_STATUSES: Final = frozenset({400, 401, 403, 404, 410})
"""The CDN's answer to an expired signed URL, and to more connections than it allows."""

# An unwanted body is read up to this length to keep its connection; after that the connection is closed.
_DISCARDED_BYTES: Final = 64 * 1024
_DISCARD_S: Final = 1.0
# A router may have dropped a connection that was idle for longer, also in sleep, which shows only after a timeout.
_IDLE_S: Final = 30.0
_ENCODED_PIECE_BYTES: Final = 64 * 1024
# A journal has little room for what a server sends.
_VERSION_LENGTH: Final = 100

# The errors of a kept connection that the server has closed.
_SIGNS_OF_DEATH: Final = (ConnectionError, http.client.BadStatusLine, ssl.SSLError)


class ExchangeError(Exception):
    """One exchange failed. Never shown to users: `engine.retry` decides what follows.

    `may_be_limit`: the server may refuse it only because there are more connections than it allows.
    """

    def __init__(self, text: str, *, may_be_limit: bool = False) -> None:
        super().__init__(text)
        self.may_be_limit = may_be_limit


class LineError(ExchangeError):
    """The connection could not be made, broke, or ended early."""


class SilentError(LineError):
    """The host (host and port) sent nothing for this long."""

    def __init__(self, host: str, silent_s: float) -> None:
        super().__init__(f"{host} has not answered for {silent_s:.0f} s")


class BusyError(ExchangeError):
    """The server asks to come back in `wait_s` seconds; None if it does not say."""

    def __init__(self, status: int, wait_s: float | None) -> None:
        super().__init__(f"HTTP {status}", may_be_limit=True)
        self.status = status
        self.wait_s = wait_s


class RefusedError(ExchangeError):
    """The CDN refuses the URL: it has expired, or there are more connections than it allows."""


class MovedError(ExchangeError):
    """The file is served from another address; `location` is as in the answer: relative, empty, or no address."""

    def __init__(self, location: str) -> None:
        super().__init__("redirected too many times")
        self.location = location


class WrongRangeError(ExchangeError):
    """The answer's bytes are not the requested range."""


class RangeIgnoredError(WrongRangeError):
    """The server sends the whole file whatever range is requested."""


class WrongAnswerError(ExchangeError):
    """The answer is neither the file nor a known refusal."""


class AskedRange(Value, frozen=True):
    """A request's range: from `start` to before `end` (None: no range) of a file of `size_bytes` (None: unknown)."""

    start: int = 0
    end: int | None = None
    size_bytes: int | None = None

    @property
    def header(self) -> Mapping[str, str]:
        """The `Range` header; empty if the whole is requested."""
        return {} if self.end is None else {"Range": f"bytes={self.start}-{self.end - 1}"}


def check_answer(status: int, headers: Mapping[str, str], asked: AskedRange, url: str = "") -> int | None:
    """Check that the body is the requested one, else raise `ExchangeError` or `RemoteChangedError`; lower-case names.

    Returns where the body ends in the remote file: at or before the requested end (RFC 9110, 15.3.7 allows less); None
    unknown.
    """
    if status == 206:
        return _end_of_range(headers, asked)
    if status == 200:
        return _end_of_whole(headers, asked)
    if status in REDIRECT_STATUSES:
        raise MovedError(headers.get("location", ""))
    if status in TRANSIENT_STATUSES:
        raise BusyError(status, asked_wait_s(status, headers))
    if status in REFUSED_STATUSES:
        raise RefusedError(f"HTTP {status}", may_be_limit=not has_expired(url, headers))
    if status != 416:
        raise WrongAnswerError(f"HTTP {status}")
    found = content_range(headers)
    if found is not None and contradict(found.size_bytes, asked.size_bytes):
        raise RemoteChangedError("The CDN now has a file of another size. Download it again.")
    raise WrongRangeError("HTTP 416")


def _end_of_range(headers: Mapping[str, str], asked: AskedRange) -> int:
    found = content_range(headers)
    if found is None or found.end is None or found.start != asked.start or is_encoded(headers):
        raise WrongRangeError("another range than requested")
    if contradict(found.size_bytes, asked.size_bytes):
        raise WrongRangeError("a range of a file of another size")
    if asked.end is None and found.end != (found.size_bytes if asked.size_bytes is None else asked.size_bytes):
        raise WrongRangeError("a range instead of the whole")
    return found.end if asked.end is None else min(found.end, asked.end)


def _end_of_whole(headers: Mapping[str, str], asked: AskedRange) -> int | None:
    length = None if is_encoded(headers) else size_in(headers.get("content-length"))
    # Checked first: a login page of the network is no reason to give up bytes that came by ranges.
    if contradict(length, asked.size_bytes):
        raise WrongAnswerError("a file of another size")
    if length is None and asked.size_bytes is not None and is_web_page(headers):
        raise WrongAnswerError("a web page instead of the file")
    is_all_of_it = asked.start == 0 and asked.size_bytes is not None and asked.end == asked.size_bytes
    if asked.end is not None and (is_encoded(headers) or not is_all_of_it):
        raise RangeIgnoredError("the range was ignored")
    return length if asked.size_bytes is None else asked.size_bytes


class Session:
    """Settings of all requests: endpoint, token for its origin only, timeouts. Safe from any thread."""

    def __init__(self, configure: Configure, timeouts: Timeouts) -> None:
        self.endpoint = configure.endpoint.rstrip("/")  # it may have a path
        self.endpoints = (self.endpoint, *configure.mirrors)
        self.token = configure.token  # None: anonymous
        self.timeouts = timeouts
        self._modelscope = configure.modelscope
        self._user_agent = re.sub(r"[^ -~]", "?", configure.user_agent)
        self._origin: Origin | None = None
        with contextlib.suppress(ValueError):
            self._origin = origin_of(web_address(self.endpoint))
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []  # those without a request
        self._is_closed = False

    def close(self) -> None:
        """Close the idle connections, and from now on each one after its request."""
        self._is_closed = True
        self.close_idle()

    def close_idle(self) -> bool:
        """Close the idle connections; False if there were none, and none is in use."""
        has_connections = bool(self._connections)
        with contextlib.suppress(IndexError):
            while True:
                self._close(self._idle.pop())
        return has_connections

    def _close(self, connection: "Connection") -> None:
        self._connections.discard(connection)
        connection.close()

    def check(self) -> None:
        """Raises `InvalidTokenError` for a token that no header can carry, `InvalidConfigError` for the endpoint."""
        if self.token is not None and not (self.token and can_be_sent(self.token)):
            raise InvalidTokenError(INVALID_CHARACTER)
        if self._origin is None:
            raise InvalidConfigError(f"{redacted(self.endpoint)!r} is not the address of a hub; check HF_ENDPOINT.")

    def address_of(self, repo_id: str, commit_sha: str) -> Callable[[str], Asked]:
        """What to request for each path of a repository at a commit."""
        name = modelscope_name(repo_id)
        endpoint = self.endpoint if name is None else f"{self._modelscope}/models"
        return partial(Asked, endpoint, name or repo_id, commit_sha, has_login=name is None)

    def is_hub(self, url: str) -> bool:
        """Whether the URL is on the endpoint's own origin."""
        return origin_of(url) == self._origin

    def headers_for(self, url: str) -> dict[str, str]:
        """The headers of every request to this URL; the token only for the hub itself."""
        headers = {"User-Agent": self._user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        if self.token is not None and self.is_hub(url):
            headers["Authorization"] = f"Bearer {self.token}"
        return headers

    def head(self, url: str, extra: Mapping[str, str], method: str = "GET") -> tuple[int, Mapping[str, str]]:
        """Status and headers of one answer, without its body, on a kept connection; raises as `Connection.request`."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = Connection(self)
            self._connections.add(connection)
        try:
            response = connection.exchange(method, url, extra)
        except BaseException:
            self._close(connection)  # what it left unread would be the next answer
            raise
        connection.release(response)
        self._idle.append(connection)
        if self._is_closed:
            self.close_idle()
        return response.status, headers_of(response)

    def can_reach_hub(self) -> bool:
        """Send the hub or a mirror a request: any answer counts, even an untrusted certificate. May take seconds."""
        for endpoint in self.endpoints:
            with contextlib.suppress(ExchangeError):
                with contextlib.suppress(GglibError, ValueError):
                    self.head(web_address(endpoint), {}, "HEAD")
                return True
        return False


class Answer:
    """The body of a checked answer; it ends at `end` of the remote file, maybe before the requested end; None: unknown.

    `version` is what the server states of the file's content: its `ETag`, or when it was changed; empty if neither.
    """

    def __init__(
        self, connection: "Connection", response: http.client.HTTPResponse, start: int, end: int | None
    ) -> None:
        version = response.getheader("etag") or response.getheader("last-modified") or ""
        self.version = version.removeprefix("W/")[:_VERSION_LENGTH]
        self._connection = connection
        self._response = response
        self._left = None if end is None else end - start
        self._decode = _decoder_of(response)

    def readinto(self, view: memoryview) -> int:
        """Fill the view, waiting for bytes; fewer at the end or of a compressed body, then 0. May raise `LineError`."""
        if self._left is not None:
            view = view[: self._left]
        if not view:
            return 0
        try:
            count = (self._decode or self._response.readinto)(view)
        except (OSError, http.client.HTTPException, zlib.error, ValueError) as error:
            raise self._connection.broken(error) from error
        if self._left is not None:
            self._left -= count
        if count == 0 and (self._left is not None or self._response.length):  # also between two gzip members
            raise LineError("the connection ended early")
        return count

    def finish(self) -> None:
        """The caller has read all it wants; the connection is kept if little is left of the body."""
        self._connection.release(self._response)


def _decoder_of(response: http.client.HTTPResponse) -> Callable[[memoryview], int] | None:
    """A function that reads decompressed bytes of a body; None: it is not compressed."""
    headers = headers_of(response)
    if not is_encoded(headers):
        return None
    if (encoding := headers["content-encoding"].strip().lower()) not in ("gzip", "x-gzip", "deflate"):
        raise WrongAnswerError(f"encoded as {encoding[:20]!r}")
    return _inflating(response)


def _inflating(response: http.client.HTTPResponse) -> Callable[[memoryview], int]:
    """The function for gzip and deflate. It reads at most one chunk ahead.

    Not `gzip.GzipFile`: it knows no deflate, and waits for 128 KiB at once, which takes longer on a slow line than a
    connection may be silent.
    """
    inflate, encoded = zlib.decompressobj(zlib.MAX_WBITS | 32), b""

    def readinto(view: memoryview) -> int:
        nonlocal inflate, encoded
        while True:
            encoded = encoded or response.read1(_ENCODED_PIECE_BYTES)
            if inflate.eof:
                if not encoded:
                    return 0
                if not (encoded := encoded.lstrip(b"\0")):
                    continue
                inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # a further member (RFC 1952, section 2.2)
            is_end = not encoded
            data = inflate.decompress(encoded, len(view))
            encoded = inflate.unconsumed_tail or inflate.unused_data
            if data:
                view[: len(data)] = data
                return len(data)
            if is_end:
                raise ConnectionResetError("the compressed body ended early")

    return readinto


class Connection:
    """One connection, kept alive between requests. One thread uses it; only `abort` may be called from another."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_aborted = False
        self._route: tuple[Origin, Proxy | None] | None = None
        self._stream: Stream | None = None
        self._reader: DeadlineReader | None = None
        self._used_s = 0.0

    def request(self, url: str, start: int = 0, end: int | None = None, size_bytes: int | None = None) -> Answer:
        """Request a range of a file (`AskedRange`).

        Raises `ExchangeError` if the answer is not that range, `RemoteChangedError` if it is another file, and
        `InvalidConfigError` if a certificate or a proxy prevents the request.
        """
        asked = AskedRange(start, end, size_bytes)
        response = self.exchange("GET", url, asked.header)
        try:
            end = check_answer(response.status, headers_of(response), asked, url)
            return Answer(self, response, start, end)
        except BaseException:
            self.release(response)
            raise

    def abort(self) -> None:
        """Stop permanently: the request in progress and later ones raise `LineError`. From any thread; never blocks."""
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
        self._stream = self._reader = self._route = None

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

    def broken(self, error: Exception) -> LineError | InvalidConfigError:
        """The error that a failure in the middle of a body means."""
        host = "the host" if self._route is None else host_text(self._route[0])
        return _exchange_error(error, host, self.session.timeouts.answer_s)

    def exchange(self, method: str, url: str, extra: Mapping[str, str]) -> http.client.HTTPResponse:
        """Send a request and read the head of its answer; a kept connection closed by the server is replaced once."""
        self.session.check()
        route, timeouts = _route_to(url), self.session.timeouts
        host = host_text(route[0])
        if self._route != route or clock_s() - self._used_s >= _IDLE_S:
            self.close()
        while True:
            is_kept = self._stream is not None
            limit_s = timeouts.answer_s if is_kept else timeouts.connect_s
            try:
                stream = self._stream = self._stream or open_stream(*route, tls_context, limit_s, self._own)
                self._route, limit_s = route, timeouts.answer_s
                stream.settimeout(limit_s)
                self._reader = reader = DeadlineReader(stream, time.monotonic() + limit_s)
                stream.sendall(_request_bytes(method, url, route, {**self.session.headers_for(url), **extra}))
                response = read_head(reader, method)
            except (OSError, http.client.HTTPException, UnicodeError) as error:
                self.close()
                if not is_kept or self._is_aborted or not isinstance(error, _SIGNS_OF_DEATH):
                    raise _exchange_error(error, host, limit_s) from error
            else:
                reader.deadline_s = None
                stream.settimeout(limit_s)
                if response.status == 407 and route[1] is not None:
                    self.close()
                    raise proxy_refusal(host, 407)
                return response

    def _own(self, connected: socket.socket) -> None:
        with self._lock:
            self._socket = connected
            if self._is_aborted:
                raise ConnectionAbortedError("aborted")


def _route_to(url: str) -> tuple[Origin, Proxy | None]:
    try:
        found = proxy_for(url)
        return origin_of(url), None if found is None else Proxy.at(found)
    except ValueError:
        raise WrongAnswerError("the address cannot be used") from None


def headers_of(response: http.client.HTTPResponse) -> Mapping[str, str]:
    """An answer's headers, names in lower case."""
    return {name.lower(): text for name, text in response.getheaders()}


def _request_bytes(method: str, url: str, route: tuple[Origin, Proxy | None], headers: Mapping[str, str]) -> bytes:
    parts, (origin, proxy) = urlsplit(url), route
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    host = host_text((origin[0], re.sub(r"%25.*", "", origin[1]), origin[2]))
    if proxy is not None and not proxy.is_socks and origin[0] == "http":
        target, headers = f"http://{host}{target}", {**headers, **login_of(proxy)}
    return request_head(f"{method} {target}", {"Host": host, **headers})


def _exchange_error(error: Exception, host: str, limit_s: float) -> LineError | InvalidConfigError:
    """The error for a broken exchange, in short, without the URL, which may be signed; `limit_s` of silence is allowed.

    Problems that do not pass by themselves end the transfer: an untrusted certificate, a proxy that refuses.
    """
    if isinstance(error, TimeoutError):
        return SilentError(host, limit_s)
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return certificate_refusal(host, text)
    if isinstance(error, ProxyRefusedError):
        return proxy_refusal(host, error.status) if is_final(error.status) else LineError(str(error), may_be_limit=True)
    # Refused, reset or closed before the first byte of an answer, as a server over its limit does.
    may_be_limit = isinstance(error, ConnectionError | http.client.BadStatusLine)
    text = " ".join(printable(redacted(text)).split())  # it may be the server's, if that speaks no HTTP
    return LineError(text[:120] or type(error).__name__, may_be_limit=may_be_limit)
