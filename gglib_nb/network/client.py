"""Sends the hub client's requests, and gives httpx's responses and errors.

They use our own connections, because httpx ignores `REQUESTS_CA_BUNDLE`, tries a host's addresses one after the other,
has no limit for a head that arrives byte by byte, and logs every requested URL with its signature. If the user called
`set_client_factory` of huggingface_hub, that client sends them. Imported late: httpx takes a fifth of a second.
"""

import atexit
import http.client
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from gglib_nb.network.exchange import ConnectionPool, KeptConnection, route_to
from gglib_nb.network.proxies import Proxies
from gglib_nb.network.tunnels import ProxyRefusedError

if TYPE_CHECKING:
    from huggingface_hub.utils import httpx as httpx  # noqa: PLC0414 - this is where others import it from
else:
    try:  # httpx up to huggingface_hub 1.x (0.x uses requests, of which nothing is needed here), and httpx2 from 2.0 on
        from huggingface_hub.utils import httpx
    except ImportError:  # before 1.31
        import httpx

_MOST_READ_BYTES: Final = 64 * 1024
_pools: dict[int, ConnectionPool] = {}  # by process: a forked child shares its parent's connections


def get(url: str, params: Sequence[tuple[str, str]], headers: httpx.Headers, timeout_s: float) -> httpx.Response:
    """The answer to one request, whose body has to be read or closed. Redirects are not followed.

    Raises errors of httpx, and `InvalidConfigError` if the environment names proxies or certificates that cannot be
    used.
    """
    from huggingface_hub.utils import _http, get_session

    # There is no public way to ask whether `set_client_factory` was called.
    factory = getattr(_http, "_GLOBAL_CLIENT_FACTORY", None)
    if factory is getattr(_http, "default_client_factory", None):
        return _get(httpx.Request("GET", url, params=list(params) or None, headers=headers), timeout_s)
    client = get_session()
    request = client.build_request("GET", url, params=list(params) or None, headers=headers, timeout=timeout_s)
    try:
        return client.send(request, stream=True, follow_redirects=False)
    except RuntimeError as error:  # another thread's failure closed the shared session
        raise httpx.ReadError("the shared session was closed") from error


def _get(request: httpx.Request, timeout_s: float) -> httpx.Response:
    url = str(request.url)
    try:
        route = route_to(url, Proxies.from_environment())
    except ValueError:
        route = None
    if route is None or request.url.scheme not in ("http", "https") or not request.url.host:
        raise httpx.UnsupportedProtocol("not a web address", request=request)
    del request.headers["host"]
    pool = _pools.setdefault(os.getpid(), ConnectionPool())
    connection = pool.take(route)
    try:
        with _httpx_errors(request, connection):
            response = connection.exchange(route, "GET", url, request.headers, timeout_s, timeout_s)
    except BaseException:
        pool.discard(connection)
        raise
    headers = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in response.getheaders()]
    body = _Body(request, response, connection, pool)
    return httpx.Response(response.status, headers=headers, stream=body, request=request)


class _Body(httpx.SyncByteStream):
    """The body of a response; once it is closed, its connection is idle."""

    def __init__(
        self,
        request: httpx.Request,
        response: http.client.HTTPResponse,
        connection: KeptConnection,
        pool: ConnectionPool,
    ) -> None:
        self._request, self._response, self._connection, self._pool = request, response, connection, pool

    @override
    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors(self._request, self._connection):
            while data := self._response.read1(_MOST_READ_BYTES):
                yield data
            if self._response.length:
                raise http.client.IncompleteRead(b"", self._response.length)

    @override
    def close(self) -> None:
        self._pool.give_back(self._connection, self._response)


@contextmanager
def _httpx_errors(request: httpx.Request, connection: KeptConnection) -> Iterator[None]:
    """Raises the error of httpx for a broken exchange."""
    try:
        yield
    except TimeoutError as error:
        raise httpx.ReadTimeout("timed out", request=request) from error
    except ProxyRefusedError as error:
        raise httpx.ProxyError(str(error.status), request=request) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # UnicodeError: an impossible host name
        kind = httpx.ReadError if connection.has_opened else httpx.ConnectError
        raise kind(str(error), request=request) from error


def close_connections() -> None:
    """Close the idle connections of this process, and the others after their requests."""
    if (pool := _pools.pop(os.getpid(), None)) is not None:
        pool.close()


atexit.register(close_connections)
