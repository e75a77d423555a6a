"""Which proxy a request uses, for hub client and engine: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.

The standard library reads the variables (and on macOS the system's settings). Three forms of `NO_PROXY` that it does
not support are added: networks such as `10.0.0.0/8`, `*.example.com`, and spaces between entries, which curl allows.
"""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from gglib_nb.domain.http_rules import origin_of
from gglib_nb.errors import InvalidConfigError

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_PASSING: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy."""

    scheme: str  # `http`, `https`, `socks5` (this machine looks the host's name up) or `socks5h` (the proxy does)
    host: str
    port: int
    login: tuple[str, str] | None = field(default=None, repr=False)  # name and password; None without

    @classmethod
    def at(cls, url: str) -> Self:
        """The proxy that an address names, or an `InvalidConfigError` without it: it may have a password."""
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme, parts.hostname or "", parts.port
        except ValueError:  # an unquoted `#` or `/` in the password leaves no port
            scheme, host, port, parts = "", "", None, urlsplit("")
        if scheme == "socks":
            raise InvalidConfigError(
                "The proxy settings (ALL_PROXY) name a proxy as socks://, which gives no version. Write socks5:// "
                "(or socks5h://, if the proxy resolves names), then restart the kernel."
            )
        if scheme not in _DEFAULT_PORTS or not host:
            raise InvalidConfigError(
                "The proxy settings (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) cannot be used; write "
                "http://name:password@host:port, with special characters in the password as %-codes."
            )
        login = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
        return cls(scheme, host, _DEFAULT_PORTS[scheme] if port is None else port, login)

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS; else HTTP."""
        return self.scheme.startswith("socks")


def proxy_for(url: str) -> str | None:
    """The address of the proxy for a URL, as the environment names it now; None if the host is reached directly."""
    from urllib.request import getproxies, proxy_bypass  # 15 ms, which would slow the import

    (scheme, host, port), named = origin_of(url), getproxies()
    exempt = named.get("no", "").lower().replace(",", " ").split()
    proxy = named.get(scheme, "").strip() or named.get("all", "").strip()
    if not proxy or proxy_bypass(f"{host}:{port}") or any(_covers(entry, host, port) for entry in exempt):
        return None
    # RFC 6874 quotes the zone of an IPv6 address, which no resolver understands.
    proxy = re.sub(r"(\[[^]@]*)%25", r"\1%", proxy)
    return proxy if "://" in proxy else f"http://{proxy}"


def _covers(entry: str, host: str, port: int) -> bool:
    if entry.startswith("*."):
        return host.endswith(entry[1:].removesuffix(f":{port}"))
    try:
        return ip_address(host) in ip_network(entry.removesuffix(f"]:{port}").strip("[]"), strict=False)
    except ValueError:  # one of them is a name
        return entry == "*" or f".{host}".endswith(f".{entry.removesuffix(f':{port}').lstrip('.')}")


def is_final(status: int) -> bool:
    """Whether a proxy's refusal lasts until a setting changes: it requires a login, or does not allow the host."""
    return 300 <= status < 500 and status not in _PASSING
