"""Which proxy stands before an address, as the environment says: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.

The standard library reads the variables (and on macOS the system's settings). Two habits of `NO_PROXY` that it does not
know are added: networks such as `10.0.0.0/8`, and `*.example.com`. One reading for every client of ours, so that listing
and downloading never take different ways.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_STATUS: Final = re.compile(r"(\d{3})\b")
_PASSING: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies as they were named when this was made.

    Attributes:
        by_scheme: Address of the proxy by `http`, `https` or `all`; may hold a password, so it is in no `repr`.
        exempt: The entries of `NO_PROXY`.
    """

    by_scheme: Mapping[str, str] = field(repr=False)
    exempt: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls) -> Self:
        """What the environment says now."""
        found = getproxies()
        named = {scheme: found[scheme] for scheme in ("http", "https", "all") if found.get(scheme)}
        exempt = (entry.strip().lower() for entry in found.get("no", "").split(","))
        return cls(
            {scheme: url if "://" in url else f"http://{url}" for scheme, url in named.items()},
            tuple(filter(None, exempt)),
        )

    def for_url(self, url: str) -> str | None:
        """Address of the proxy for a URL; None where it is reached directly."""
        parts = urlsplit(url)
        proxy = self.by_scheme.get(parts.scheme) or self.by_scheme.get("all")
        if proxy is None or self._is_exempt(parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)):
            return None
        return proxy

    def _is_exempt(self, host: str, port: int) -> bool:
        return bool(proxy_bypass(f"{host}:{port}")) or any(_covers(entry, host) for entry in self.exempt)


def _covers(entry: str, host: str) -> bool:
    if entry.startswith("*."):
        return host.endswith(entry[1:])
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:  # one of them is a name
        return entry == "*"


def refused_status(error: BaseException) -> int | None:
    """The status with which a proxy refused to connect, from the HTTP client's error; None where it is another error."""
    from gglib_nb.network.http_library import httpx

    match = _STATUS.match(str(error)) if isinstance(error, httpx.ProxyError) else None
    return int(match[1]) if match else None


def is_final(status: int) -> bool:
    """Whether a proxy's refusal lasts until somebody changes something: it does not know us, or not let us there."""
    return 300 <= status < 500 and status not in _PASSING
