"""What every request of the engine shares: origins, headers and the token, the httpx client.

httpx and `http.client` take the same proxies and trust the same certificates: those of `gglib_nb.network`. The token goes to
the endpoint's own origin only: scheme, host and port. Nothing here knows files or ranges.
"""

import contextlib
import ssl
import threading
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from gglib_nb.domain.secrets import redacted
from gglib_nb.engine.http.errors import LineError, line_error
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import InvalidConfigError
from gglib_nb.network.proxies import Proxies
from gglib_nb.network.tls import tls_context

if TYPE_CHECKING:
    from gglib_nb.network.http_library import httpx

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(url: SplitResult) -> tuple[str, str, int | None]:
    """Scheme, host and port: what decides who may see a token."""
    return url.scheme, url.hostname or "", url.port or _DEFAULT_PORTS.get(url.scheme)


class Session:
    """One configuration's session with the hub and its CDN; safe to share between threads.

    Attributes:
        endpoint: The hub's base URL, without a slash at its end.
        timeouts: How long to wait for a connection and an answer.
    """

    def __init__(self, endpoint: str, token: str | None, user_agent: str, timeouts: Timeouts) -> None:
        """Nothing is opened yet.

        Args:
            endpoint: The hub's base URL.
            token: None: anonymous.
            user_agent: Sent with every request.
            timeouts: How long to wait.
        """
        self.endpoint = endpoint.rstrip("/")
        self.timeouts = timeouts
        self._token = token
        self._user_agent = user_agent
        self._origin = origin_of(urlsplit(self.endpoint))
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Make the client in the background: importing httpx and reading the certificates takes a quarter of a second."""
        threading.Thread(target=self._warm_up, name="gglib-session", daemon=True).start()

    def close(self) -> None:
        """Close the client's connections, if there is a client."""
        with self._lock:
            if "_client" in vars(self):
                self._client.close()

    def can_reach_hub(self) -> bool:
        """Ask the hub for anything: any answer will do, and a certificate that is not trusted is one too. May take seconds."""
        from gglib_nb.network.http_library import httpx

        try:
            self.client.head(self.endpoint, headers=self.headers_for(self.endpoint))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return not isinstance(line_error(error, self.endpoint), LineError)
        except InvalidConfigError:
            pass  # no line is to blame for that
        return True

    @property
    def has_token(self) -> bool:
        """Whether the hub is asked with one."""
        return self._token is not None

    def without_token(self, text: str) -> str:
        """A text from outside without the token, should it repeat that."""
        return redacted(text, self._token)

    def is_hub(self, url: str) -> bool:
        """Whether the URL is on the endpoint's own origin."""
        return origin_of(urlsplit(url)) == self._origin

    def headers_for(self, url: str) -> dict[str, str]:
        """What every request to this URL carries; the token only to the hub itself."""
        headers = {"User-Agent": self._user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        if self._token is not None and self.is_hub(url):
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def is_proxied(self, url: str) -> bool:
        """Whether the environment names a proxy for this URL."""
        return self._proxies.for_url(url) is not None

    @cached_property
    def _proxies(self) -> Proxies:
        return Proxies.from_environment()

    @property
    def tls(self) -> ssl.SSLContext:
        """The TLS settings of every connection. Raises `InvalidConfigError`, as `client`."""
        return tls_context()

    @property
    def client(self) -> "httpx.Client":
        """The httpx client for the hub; redirects are never followed by it.

        Raises:
            InvalidConfigError: The environment names proxies or certificates that cannot be used.
        """
        with self._lock:
            return self._client

    def _warm_up(self) -> None:
        with contextlib.suppress(InvalidConfigError):  # whoever needs it is told
            _ = self.client

    @cached_property
    def _client(self) -> "httpx.Client":
        from gglib_nb.network.client import make_client
        from gglib_nb.network.http_library import httpx

        return make_client(timeout=httpx.Timeout(self.timeouts.answer_s, connect=self.timeouts.connect_s))
