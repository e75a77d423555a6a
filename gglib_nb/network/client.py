"""The hub client's httpx client, with our own proxies, certificates and address racing, and no signed address in a log.

httpx by itself ignores `REQUESTS_CA_BUNDLE`, tries a host's addresses one after the other, and logs every requested URL
with its signature. Imported late: httpx takes a fifth of a second. The engine does not use it.
"""

import atexit
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from gglib_nb.domain.http_rules import origin_of
from gglib_nb.domain.text import redacted
from gglib_nb.errors import InvalidConfigError
from gglib_nb.network.dialing import forget, working_family
from gglib_nb.network.proxies import Proxy, proxy_for
from gglib_nb.network.tls import tls_context

if TYPE_CHECKING:
    from huggingface_hub.utils import httpx as httpx  # noqa: PLC0414 - this is where others import it from
else:
    try:  # httpx up to huggingface_hub 1.x (0.x uses requests, of which nothing is needed here), and httpx2 from 2.0 on
        from huggingface_hub.utils import httpx
    except ImportError:  # before 1.31
        import httpx

_ANY_ADDRESS: Final = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::", None: None}  # noqa: S104  # the local address, not the remote one
_CONNECT_S: Final = 10.0
_LONGEST_HEAD_S: Final = 60.0
# The logger names of httpx 0 and 2 and of the libraries below them.
_LOGGERS: Final = tuple(
    f"{library}{version}{part}"
    for library, parts in (("httpx", ("",)), ("httpcore", (".connection", ".http11", ".http2", ".proxy", ".socks")))
    for version in ("", "2")
    for part in parts
)


class RoutingTransport(httpx.BaseTransport):
    """Sends each request through its proxy, or directly by a working address family; raises `InvalidConfigError`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_closed = False
        # By arguments of `_made`. Each has one request at a time, because the limit of a head closes all of it.
        self._idle: dict[tuple[str | None, str | None, ssl.SSLContext], list[httpx.HTTPTransport]] = {}

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme not in ("http", "https") or not request.url.host:
            raise httpx.UnsupportedProtocol("not a web address", request=request)
        proxy = proxy_for(str(request.url))
        route = proxy, None if proxy is not None else _local_address(request), tls_context()
        with self._lock:
            idle = self._idle.setdefault(route, [])
            transport = idle.pop() if idle else _made(*route)
        # httpx limits the time of each read, but not that of a head which arrives byte by byte.
        silent_s = request.extensions.get("timeout", {}).get("read") or 0.0
        limit = threading.Timer(_LONGEST_HEAD_S + silent_s, transport.close)
        limit.daemon = True
        limit.start()
        try:
            response = transport.handle_request(request)
        except BaseException as error:
            transport.close()
            if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                forget(*origin_of(str(request.url))[1:])
            raise
        finally:
            limit.cancel()
        assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101  # as of every such transport
        response.stream = _Body(response.stream, partial(self._release, transport, idle))
        if self._is_closed:
            response.close()
            raise httpx.ReadError("the connection was closed", request=request)
        return response

    def _release(self, transport: httpx.HTTPTransport, idle: list[httpx.HTTPTransport]) -> None:
        idle.append(transport)
        if self._is_closed:  # during its request: nobody else would close it
            transport.close()

    @override
    def close(self) -> None:
        self._is_closed = True
        for idle in list(self._idle.values()):
            for transport in list(idle):
                transport.close()


class _Body(httpx.SyncByteStream):
    """The body of a response; once it is closed, its transport is idle."""

    def __init__(self, stream: httpx.SyncByteStream, release: Callable[[], None]) -> None:
        self._stream, self._release = stream, release

    @override
    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    @override
    def close(self) -> None:
        self._stream.close()
        self._release()


def _local_address(request: httpx.Request) -> str | None:
    """The local address that makes httpx use the family of addresses that works."""
    _, host, port = origin_of(str(request.url))
    try:
        family = working_family(host, port, request.extensions.get("timeout", {}).get("connect") or _CONNECT_S)
    except TimeoutError as error:
        raise httpx.ConnectTimeout("timed out", request=request) from error
    except (OSError, UnicodeError) as error:  # UnicodeError: an impossible host name
        raise httpx.ConnectError(str(error), request=request) from error
    return _ANY_ADDRESS.get(family)


def _made(proxy: str | None, local_address: str | None, tls: ssl.SSLContext) -> httpx.HTTPTransport:
    if proxy is None:
        return httpx.HTTPTransport(verify=tls, local_address=local_address)
    is_tls = Proxy.at(proxy).scheme == "https"  # it explains what is wrong with an address
    try:
        return httpx.HTTPTransport(verify=tls, proxy=httpx.Proxy(proxy, ssl_context=tls if is_tls else None))
    except ImportError:  # the only one: httpx imports it for such a proxy
        raise InvalidConfigError(
            "The proxy settings (ALL_PROXY) name a SOCKS proxy, which needs the package socksio. Install it, then "
            "restart the kernel."
        ) from None
    except (ValueError, httpx.InvalidURL):  # its text may quote a part of the password
        raise InvalidConfigError("The proxy settings (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) cannot be used.") from None


class _LogFilter(logging.Filter):
    """Filters the HTTP library's log: no signatures, no tokens, and no line for each of our requests in a user's cells.

    Lines for requests of our own threads, which the library logs at INFO, are kept if the user asked for DEBUG.
    """

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(record.getMessage()), ()
        is_ours = record.levelno == logging.INFO and (record.threadName or "").startswith("gglib-")
        return not is_ours or logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


_log_filter: Final = _LogFilter()
_shared_lock: Final = threading.Lock()
_shared: dict[int, httpx.Client] = {}  # by process: a forked child shares its parent's connections


def shared_client() -> httpx.Client:
    """The process's client: that of huggingface_hub if the user called its `set_client_factory`, else ours."""
    from huggingface_hub.utils import _http, get_session

    # There is no public way to ask whether `set_client_factory` was called.
    factory = getattr(_http, "_GLOBAL_CLIENT_FACTORY", None)
    if factory is not getattr(_http, "default_client_factory", None):
        return get_session()
    with _shared_lock:
        if (pid := os.getpid()) not in _shared:
            _shared.clear()
            for name in _LOGGERS:
                logging.getLogger(name).addFilter(_log_filter)
            # It does not follow redirects or search for passwords (`.netrc`), and each request has its own timeout.
            _shared[pid] = httpx.Client(transport=RoutingTransport(), trust_env=False, timeout=None)  # noqa: S113
        return _shared[pid]


def close_shared_client() -> None:
    """Close the client of this process, if it has one."""
    if (client := _shared.pop(os.getpid(), None)) is not None:
        client.close()


atexit.register(close_shared_client)
