"""Rules for HTTP answers that the kernel's hub client and the engine share.

Header names are in lower case. Sources: RFC 9110 (`Retry-After`, `Content-Range`, redirects), the WHATWG URL standard
(what is allowed unquoted), draft-ietf-httpapi-ratelimit-headers (`RateLimit`), the Hub's `X-Linked-*` headers.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urljoin, urlsplit

from gglib_nb.domain.values import Value

TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}
REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS: Final = 6
"""A renamed repository takes one, a small file another; more are a loop."""

LARGEST_SIZE: Final = 2**63 - 1
"""The largest size that the protocol between kernel and engine supports; a larger stated size is ignored."""

_THE_HUB: Final = re.compile(r"https?://(?:(?:www\.)?huggingface\.co|hf\.co)(?=/)")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_RATE_LIMIT: Final = re.compile(r";\s*([rt])\s*=\s*(\d{1,9})")
_SECONDS: Final = re.compile(r"\d{1,9}(?:\.\d+)?", re.ASCII)
_DIGITS: Final = re.compile(r"\d{1,19}", re.ASCII)
_CONTENT_RANGE: Final = re.compile(
    r"bytes[ =]\s*(?:(\d{1,19})\s*-\s*(\d{1,19})|\*)\s*/\s*(\d{1,19}|\*)", re.ASCII | re.IGNORECASE
)
_SHA256: Final = re.compile(r'(?:W/)?"?([0-9a-fA-F]{64})"?')
_SIGNED_FIELD: Final = re.compile(r"x-(?:amz|goog)-")
_CODINGS: Final = frozenset({"br", "compress", "deflate", "gzip", "x-compress", "x-gzip", "zstd"})
_HOST: Final = re.compile(r"[0-9A-Za-z._~%:-]+")
# Browsers leave these unquoted in a path or a query; everything else is quoted, so that no line break is ever sent.
_UNQUOTED: Final = "!$%&'()*+,-./:;=?@[]_~|^"

Origin = tuple[str, str, int]
"""Scheme, host in lower case, port: what decides which requests may carry a token."""


def asked_wait_s(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait; None: it does not say.

    The Hub's `RateLimit` counts only on a 429 and when nothing is left; `Retry-After` is the second choice there and
    the only one on a 5xx. A date is compared with the answer's `Date`, because this machine's clock may be wrong.
    """
    if status == 429 and (limit_s := _rate_limit_s(headers.get("ratelimit", ""))) is not None:
        return limit_s
    if status != 429 and status < 500:
        return None
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    now, then = _http_date(headers.get("date", "")), _http_date(text)
    return None if now is None or then is None else max(0.0, (then - now).total_seconds())


def backoff_s(failures: int, first_s: float, longest_s: float, chance: float) -> float:
    """Seconds to wait after this many failures in a row: doubled by each; `chance`, 0 to 1, spreads many clients."""
    return min(longest_s, first_s * 2.0 ** min(failures - 1, 16)) * (0.5 + chance / 2)


def _rate_limit_s(text: str) -> float | None:
    """One second beyond the longest `t` of the limits that have `r=0` left, as huggingface_hub waits."""
    limits = [dict(_RATE_LIMIT.findall(limit)) for limit in text.split(",")]
    waits_s = [int(limit["t"]) for limit in limits if int(limit.get("r", 1)) == 0 and "t" in limit]
    return max(waits_s) + 1.0 if waits_s else None


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date.replace(tzinfo=date.tzinfo or UTC)  # the oldest of the three forms names no zone


def size_in(text: str | None) -> int | None:
    """A size in a header, in bytes; None: none that is possible."""
    if text is None or not _DIGITS.fullmatch(text.strip()):
        return None
    size = int(text)
    return size if size <= LARGEST_SIZE else None


class ContentRange(Value, frozen=True):
    """A `Content-Range` header."""

    start: int | None  # first byte; None on a refused range (`bytes */1000`)
    end: int | None  # one past the last byte; None there
    size_bytes: int | None  # of the whole; None: it is not stated


def content_range(headers: Mapping[str, str]) -> ContentRange | None:
    """The `Content-Range` of an answer; None: none, or an impossible one."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    if match is None:
        return None
    first, last, total = match.groups()
    size_bytes = size_in(total)
    if first is None:
        return ContentRange(None, None, size_bytes)
    start, end = int(first), int(last) + 1
    is_sound = start < end <= (LARGEST_SIZE if size_bytes is None else size_bytes)
    return ContentRange(start, end, size_bytes) if is_sound else None


def contradict(one: object, other: object) -> bool:
    """Whether two statements of the same thing differ; None is no statement."""
    return None not in (one, other) and one != other


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Whether the body is compressed. Other codings change nothing: some stores keep `aws-chunked` of an upload."""
    return not _CODINGS.isdisjoint(re.split(r"[\s,]+", headers.get("content-encoding", "").lower()))


def is_web_page(headers: Mapping[str, str]) -> bool:
    """Whether the body is a web page, such as the login page of a network."""
    return headers.get("content-type", "").lower().startswith("text/html")


def sha256_of(etag: str | None) -> str | None:
    """The SHA-256 in an ETag, quoted or bare, weak or not, in either case; None: it is something else."""
    match = _SHA256.fullmatch((etag or "").strip())
    return match[1].lower() if match else None


def origin_of(url: str | SplitResult) -> Origin:
    """The origin of an address; a `ValueError` for an impossible port, or a bracket that is not closed."""
    parts = urlsplit(url) if isinstance(url, str) else url
    port = parts.port if parts.port is not None else _DEFAULT_PORTS.get(parts.scheme, 0)
    return parts.scheme, (parts.hostname or "").rstrip("."), port


def host_text(origin: Origin) -> str:
    """Host and port as a message names them."""
    scheme, host, port = origin
    host = f"[{host}]" if ":" in host else host
    return host if _DEFAULT_PORTS.get(scheme) == port else f"{host}:{port}"


def redirect_target(asked: str, location: str, endpoint: str) -> str:
    """The absolute address of a redirect, quoted as browsers quote it; a `ValueError` if it is not a web address.

    `asked` is the address of the request, `location` the header as `http.client` gives it: each character is one byte.
    The mirror at `endpoint` may name the Hub itself, which then cannot be reached, or not with this token: the mirror
    is asked instead, unless it was asked just now. It may name itself with `http` behind a proxy that ends TLS: the
    endpoint's scheme is kept.
    """
    if not location.strip():
        raise ValueError("no address")
    with suppress(UnicodeError):  # not UTF-8, or already text: its characters are quoted unchanged
        location = location.encode("latin-1").decode()
    target = web_address(urljoin(asked, location.strip()))
    (scheme, host, port), own = origin_of(target), origin_of(web_address(endpoint))
    if scheme == "http" and own[:2] == ("https", host) and port in (80, own[2]):
        return f"https://{host_text(own)}/{target.split('/', 3)[3]}"
    if (hub := _THE_HUB.match(target)) is None:
        return target
    mirrored = web_address(endpoint + target[hub.end() :])
    return target if mirrored == asked else mirrored


def web_address(text: str) -> str:
    """A web address in ASCII: international host name encoded, path and query quoted, no login or fragment."""
    parts = urlsplit(text)
    scheme, host, port = origin_of(parts)
    if scheme not in _DEFAULT_PORTS or not host:
        raise ValueError("not a web address")
    if not host.isascii():
        host = host.encode("idna").decode()  # a UnicodeError is a ValueError
    if not _HOST.fullmatch(host) or max(map(len, host.split("."))) > 63 or len(host) > 253:
        raise ValueError("an invalid host name")
    netloc = (f"[{host}]" if ":" in host else host) + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")
    query = f"?{quote(parts.query, _UNQUOTED)}" if parts.query else ""
    return f"{scheme}://{netloc}{quote(parts.path, _UNQUOTED) or '/'}{query}"


def is_private(host: str) -> bool:
    """Whether a numeric address or `localhost` is this machine or in a private network; names are not looked up."""
    try:
        return not ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def has_expired(url: str, headers: Mapping[str, str]) -> bool:
    """Whether a signed address has expired by the server's own clock (`Date`).

    The time is `Expires` (CloudFront), `se` (Azure), or `X-Amz-Date` and so many seconds (S3, and Google likewise).
    """
    now = _http_date(headers.get("date", ""))
    try:
        query = parse_qsl(urlsplit(url).query)
        fields = {_SIGNED_FIELD.sub("", name.lower()): value for name, value in query}
        signed = fields.get("date") or fields.get("se")
        start_s = datetime.fromisoformat(signed).replace(tzinfo=UTC).timestamp() if signed else 0.0
        expiry_s = start_s if "se" in fields else start_s + float(fields["expires"])
    except (KeyError, ValueError, OverflowError):
        return False
    return now is not None and 1e8 <= expiry_s <= now.timestamp()  # a smaller number is a duration
