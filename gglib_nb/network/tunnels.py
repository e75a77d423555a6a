"""Opens a byte stream to an origin: directly, through a CONNECT tunnel or a SOCKS 5 proxy, with or without TLS.

Sources: RFC 9110, 9.3.6 (CONNECT), RFC 1928 and 1929 (SOCKS 5 and its login). SOCKS is implemented here, in thirty
lines, because socksio, which httpx uses, has had no release since 2020 and assumes that a packet is a whole reply.
"""

import base64
import contextlib
import errno
import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Final, TypeVar, cast

from typing_extensions import Buffer, override

from gglib_nb.domain.http_rules import Origin
from gglib_nb.network.dialing import connect
from gglib_nb.network.proxies import Proxy

_Result = TypeVar("_Result")

_MOST_INTERIM_ANSWERS: Final = 20
_TLS_BYTES: Final = 64 * 1024


class ProxyRefusedError(OSError):
    """A proxy refuses the tunnel; 407 and 403 also stand for a SOCKS proxy that wants a login or forbids the host."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the proxy answered {status}")
        self.status = status


class _NestedTls:
    """TLS inside the TLS of an `https://` proxy; `SSLSocket` cannot be wrapped again."""

    def __init__(self, outer: ssl.SSLSocket, context: ssl.SSLContext, host: str) -> None:
        self._outer = outer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        self._run(self._tls.do_handshake)

    def recv_into(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        with contextlib.suppress(ssl.SSLZeroReturnError):
            return self._run(lambda: cast(int, self._tls.read(len(view), view)))
        return 0

    def sendall(self, data: Buffer) -> None:
        self._run(lambda: self._tls.write(data))  # all of it: the memory buffer accepts any length

    def settimeout(self, value: float | None) -> None:
        self._outer.settimeout(value)

    def close(self) -> None:
        self._outer.close()

    def _run(self, step: Callable[[], _Result]) -> _Result:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                if received := self._outer.recv(_TLS_BYTES):
                    self._in.write(received)
                else:
                    self._in.write_eof()
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if self._out.pending:
            self._outer.sendall(self._out.read())


Stream = socket.socket | _NestedTls


def open_stream(
    origin: Origin,
    proxy: Proxy | None,
    tls: Callable[[], ssl.SSLContext],
    timeout_s: float,
    on_socket: Callable[[socket.socket], None],
) -> Stream:
    """Connect to an origin within the timeout, without the name lookup; raises `OSError`, such as `ProxyRefusedError`.

    For plain HTTP through an HTTP proxy the stream ends at the proxy. `on_socket` is called with each socket as soon as
    it is connected, so that another thread can shut it down; it may raise.
    """
    deadline_s = time.monotonic() + timeout_s
    scheme, host, port = origin
    host = host.replace("%25", "%")  # the zone of an IPv6 address, as RFC 6874 quotes it
    near = connect(*((host, port) if proxy is None else (proxy.host, proxy.port)), timeout_s)
    stream: Stream = near
    try:
        on_socket(near)
        if proxy is not None:
            if proxy.scheme == "https":
                stream = _with_tls(near, tls(), proxy.host.partition("%")[0], on_socket)
            if proxy.is_socks:
                _socks(stream, proxy, host, port, deadline_s)
            elif scheme == "https":
                _connect_through(stream, proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", deadline_s)
        if scheme == "https":
            _limit(stream, deadline_s)
            stream = _with_tls(stream, tls(), host.partition("%")[0], on_socket)
    except BaseException:
        stream.close()
        raise
    return stream


def _limit(stream: Stream, deadline_s: float) -> None:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("timed out")
    stream.settimeout(left_s)


class DeadlineReader(io.RawIOBase):
    """A stream's bytes for `http.client`."""

    def __init__(self, stream: Stream, deadline_s: float | None) -> None:
        self.deadline_s = deadline_s  # when reads have to end; None: after the stream's own timeout
        self.has_ended = False  # the stream was read to its end
        self._stream = stream
        self._recv_into = stream.recv_into

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer) -> int:
        if self.deadline_s is not None:
            _limit(self._stream, self.deadline_s)
        count = self._recv_into(buffer)
        self.has_ended = count == 0
        return count


class _Response(http.client.HTTPResponse):
    """An answer that can be dropped unread: from Python 3.13 on, one collected after its buffer prints an error."""

    @override
    def flush(self) -> None: ...


def request_head(line: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request from method, target and headers; `UnicodeError` for values that HTTP cannot carry."""
    lines = [f"{line} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    if any("\r" in line or "\n" in line for line in lines):
        raise UnicodeError("a line break in a request")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def read_head(reader: DeadlineReader, method: str) -> http.client.HTTPResponse:
    """The final answer to a request: interim ones (100, 102, 103) are skipped. Raises `OSError` and `HTTPException`."""
    buffer = io.BufferedReader(reader)
    for _ in range(_MOST_INTERIM_ANSWERS):
        # It asks for a file once; the buffer may contain the next answer too.
        source = SimpleNamespace(makefile=lambda _mode: buffer)
        response = _Response(source, method=method)  # type: ignore[arg-type]  # it needs no other method of a socket
        response.begin()
        if reader.has_ended:  # `http.client` accepts a truncated head as complete
            raise http.client.RemoteDisconnected("the connection ended inside the headers of the response")
        if response.status >= 200:
            return response
        response.fp = None  # type: ignore[assignment]  # otherwise it closes the buffer when it is collected
    raise http.client.HTTPException("only interim responses")


def _connect_through(stream: Stream, proxy: Proxy, target: str, deadline_s: float) -> None:
    stream.sendall(request_head(f"CONNECT {target}", {"Host": target, **login_of(proxy)}))
    # As for HEAD: bytes after the head belong to the tunnel.
    response = read_head(DeadlineReader(stream, deadline_s), "HEAD")
    if not 200 <= response.status < 300:
        raise ProxyRefusedError(response.status)


def login_of(proxy: Proxy) -> dict[str, str]:
    """The header with a proxy's login; empty if there is none."""
    if proxy.login is None:
        return {}
    return {"Proxy-Authorization": f"Basic {base64.b64encode(':'.join(proxy.login).encode()).decode()}"}


def _socks(stream: Stream, proxy: Proxy, host: str, port: int, deadline_s: float) -> None:
    reader = io.BufferedReader(DeadlineReader(stream, deadline_s))

    def take(count: int) -> bytes:
        data = reader.read(count)
        if len(data) < count:
            raise ConnectionResetError(errno.ECONNRESET, "the SOCKS proxy closed the connection")
        return data

    stream.sendall(b"\x05\x01\x00" if proxy.login is None else b"\x05\x02\x00\x02")
    version, refusal = take(2)
    if version != 5:
        raise OSError(errno.EPROTO, "the proxy does not speak SOCKS 5")
    if refusal == 2 and proxy.login is not None:  # it asks for the login
        name, password = (text.encode()[:255] for text in proxy.login)
        stream.sendall(b"\x01" + bytes([len(name)]) + name + bytes([len(password)]) + password)
        refusal = take(2)[1]
    if refusal:
        raise ProxyRefusedError(407)
    address = _socks_address(host, port, is_local=proxy.scheme == "socks5")
    stream.sendall(b"\x05\x01\x00" + address + port.to_bytes(2, "big"))
    _, refusal, _, kind = take(4)
    take(({1: 4, 4: 16}.get(kind) or take(1)[0]) + 2)
    if refusal == 2:
        raise ProxyRefusedError(403)
    if refusal:
        raise OSError(errno.EPROTO, f"the SOCKS proxy could not connect (reply {refusal})")


def _socks_address(host: str, port: int, *, is_local: bool) -> bytes:
    with contextlib.suppress(ValueError):
        address = ip_address(host.partition("%")[0])
        return (b"\x01" if address.version == 4 else b"\x04") + address.packed
    if is_local:
        family, _, _, _, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return (b"\x01" if family == socket.AF_INET else b"\x04") + socket.inet_pton(family, str(found[0]))
    name = host.encode("idna")[:255]
    return b"\x03" + bytes([len(name)]) + name


def _with_tls(stream: Stream, context: ssl.SSLContext, host: str, on_socket: Callable[[socket.socket], None]) -> Stream:
    assert isinstance(stream, socket.socket)  # noqa: S101  # nothing is nested yet
    if isinstance(stream, ssl.SSLSocket):
        return _NestedTls(stream, context, host)
    wrapped = context.wrap_socket(stream, server_hostname=host)  # the plain socket gives its descriptor away
    try:
        on_socket(wrapped)
    except BaseException:
        wrapped.close()
        raise
    return wrapped
