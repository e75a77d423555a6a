"""The embedded hub as one object: two origins, their repositories, and one limit on the speed."""

import ssl
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Self

from gglib_nb.demo.cdn import Cdn
from gglib_nb.demo.messages import Request, Response
from gglib_nb.demo.refusals import DEFAULT_TOKENS, Access
from gglib_nb.demo.repositories import DemoRepository
from gglib_nb.demo.routes import Hub
from gglib_nb.demo.server import Line, OriginServer, send
from gglib_nb.demo.throttle import Throttle


class DemoHub:
    """A Hub-compatible server on loopback. A context manager; usable from any thread.

    Args:
        repositories: the repositories to serve.
        bytes_per_second: limit for all file bytes together; `None` means unlimited.
        signed_url_ttl_s: seconds for which a URL of the CDN is valid.
        tokens: the repository ids that each known token gives access to, `*` for all.
        page_size: entries per page of a listing.
        port: port of the hub's origin; 0 selects a free one.
        tls: the certificate with which both origins serve HTTPS; `None` means plain HTTP.

    Raises:
        OSError: the port is taken.
    """

    def __init__(
        self,
        repositories: Iterable[DemoRepository] = (),
        *,
        bytes_per_second: float | None = None,
        signed_url_ttl_s: float = 3600,
        tokens: Mapping[str, Collection[str]] = DEFAULT_TOKENS,
        page_size: int = 1000,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limit = Throttle(bytes_per_second)
        self._cdn = Cdn(signed_url_ttl_s)
        self._hub = Hub(self._cdn, Access(tokens), page_size)
        for repository in repositories:
            self._hub.add(repository)
        self._hub_server = OriginServer("hub", port, self._answer_at_hub, self._limit, tls)
        self._cdn_server = OriginServer("cdn", 0, self._answer_at_cdn, self._limit, tls)
        self._hub.origin_url, self._cdn.origin_url = self.url, self._cdn_server.url

    @property
    def url(self) -> str:
        """The hub's origin, to be used as `HF_ENDPOINT`."""
        return self._hub_server.url

    @property
    def repositories(self) -> dict[str, DemoRepository]:
        """The repositories served, by id."""
        return dict(self._hub.repositories)

    def start(self) -> Self:
        """Begin to serve."""
        self._hub_server.start()
        self._cdn_server.start()
        return self

    def stop(self) -> None:
        """Stop listening and cut all connections. It cannot be started again."""
        self._hub_server.stop()
        self._cdn_server.stop()
        self._limit.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answer(self, line: Line, request: Request, respond: Callable[[Request], Response]) -> bool:
        """Answer a request; the one method to override for a hub that answers differently, as the tests' does.

        Args:
            line: the connection of the request; a connection has one `Line` for its lifetime.
            request: the request, at either origin.
            respond: makes the right response.

        Returns:
            Whether the connection can be used for another request.

        Raises:
            OSError: the client has disconnected; the connection is closed.
        """
        return send(line, request, respond(request))

    def _answer_at_hub(self, line: Line, request: Request) -> bool:
        return self.answer(line, request, self._hub.respond)

    def _answer_at_cdn(self, line: Line, request: Request) -> bool:
        return self.answer(line, request, self._cdn.respond)
