"""The one place that maps httpx's and huggingface_hub's errors to ours.

An error in no row of the table is a bug and keeps its traceback. The meaning of the Hub's refusals is in
`domain.hub_answers`, because the engine needs it too. Sends no requests.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gglib_nb.domain.hub_answers import (
    LOG_IN,
    Asked,
    Refusal,
    certificate_refusal,
    hub_refusal,
    no_search,
    proxy_refusal,
)
from gglib_nb.domain.text import redacted
from gglib_nb.errors import (
    GglibError,
    HubError,
    HubUnavailableError,
    InvalidConfigError,
    InvalidTokenError,
    NetworkError,
    OfflineError,
)
from gglib_nb.network.proxies import is_final

if TYPE_CHECKING:
    from gglib_nb.network.client import httpx

OFFLINE: Final = "Offline mode is on, so no request was sent to {endpoint}. Unset HF_HUB_OFFLINE to continue."
_NOT_LOGGED_IN: Final = f"The stored login for {{host}} could not be used; {LOG_IN}."
_UNREACHABLE: Final = "{host} cannot be reached; check the connection, HF_ENDPOINT and the proxy."
_BAD_ADDRESS: Final = "{endpoint} redirected to an invalid address. Check HF_ENDPOINT."
_UNUSABLE: Final = "{endpoint} sent an invalid response ({kind}); try again later."
_NOT_JSON: Final = "{endpoint} did not answer like a Hub. Open it in a browser: the network may ask for a login, or HF_ENDPOINT may be wrong."
# The last one: JSON that is nested deeper than anything the Hub sends.
UNREADABLE_JSON: Final = (json.JSONDecodeError, UnicodeDecodeError, RecursionError)


def hub_error(error: BaseException, asked: Asked) -> GglibError | None:
    """Our error for one of httpx's or huggingface_hub's; None for any other."""
    found = next((row for row in _table() if isinstance(error, row[0])), None)
    if found is None:
        return None
    _, kind, text = found
    if kind is HubError:
        return hub_refusal(refusal(error.response, b"", None), asked)  # type: ignore[attr-defined]  # both have one
    if isinstance(error, UNREADABLE_JSON) and asked.repo_id is None:
        return no_search(asked, "or check HF_ENDPOINT")
    host = _host(error, asked)
    sentence = text.format(host=host, endpoint=asked.endpoint, kind=type(error).__name__)
    return _of_the_way(error, host) or kind(sentence)


@cache
def _table() -> tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], type[GglibError], str], ...]:
    """The meaning of each error, the most specific first. Built at the first error: importing huggingface_hub takes a while."""
    from huggingface_hub import errors

    from gglib_nb.network.client import httpx

    # Two are newer than the oldest supported huggingface_hub.
    names = ("LocalTokenNotFoundError", "OIDCError", "DeviceCodeError")
    log_in_failures = tuple(kind for name in names if (kind := getattr(errors, name, None)) is not None)
    invalid_answers = (httpx.TooManyRedirects, httpx.DecodingError, httpx.CookieConflict)
    return (
        # From renewing a login, and from the hooks of a user's own client.
        (errors.OfflineModeIsEnabled, OfflineError, OFFLINE),
        ((errors.HfHubHTTPError, httpx.HTTPStatusError), HubError, ""),  # its answer has the meaning
        (log_in_failures, InvalidTokenError, _NOT_LOGGED_IN),
        (httpx.TimeoutException, NetworkError, "{host} did not answer in time; check the connection and try again."),
        (httpx.ProxyError, NetworkError, "The proxy for {host} failed; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY."),
        (httpx.ConnectError, NetworkError, _UNREACHABLE),
        ((httpx.InvalidURL, httpx.UnsupportedProtocol), InvalidConfigError, _BAD_ADDRESS),
        (invalid_answers, HubUnavailableError, _UNUSABLE),
        (httpx.HTTPError, NetworkError, "The connection to {host} was lost; check the network and try again."),
        (UNREADABLE_JSON, HubUnavailableError, _NOT_JSON),
    )


def _of_the_way(error: BaseException, host: str) -> GglibError | None:
    """The error for a proxy that refuses the connection, or for a certificate; None for any other error."""
    from gglib_nb.network.client import httpx

    status = re.match(r"\d{3}\b", str(error)) if isinstance(error, httpx.ProxyError) else None
    if status is not None and is_final(int(status[0])):
        return proxy_refusal(host, int(status[0]))
    # httpx may keep only the text of the TLS library's error.
    said = " ".join(f"{type(link).__name__}: {link}" for link in _chain(error))
    return certificate_refusal(host, said) if isinstance(error, httpx.ConnectError) and "SSL" in said else None


def _host(error: BaseException, asked: Asked) -> str:
    """The host of the failed request: the hub, or another that it redirects to."""
    with suppress(RuntimeError, AttributeError):  # an httpx error that was raised without its request
        if netloc := error.request.url.netloc:  # type: ignore[attr-defined]  # present on httpx's errors
            return str(netloc, "ascii")
    return urlsplit(asked.endpoint).netloc


def refusal(response: "httpx.Response", body: bytes, token: str | None) -> Refusal:
    """The refusal in an answer; the token is removed from its reason."""
    headers = {name.lower(): text for name, text in response.headers.items()}
    had_token = "authorization" in response.request.headers
    return Refusal.of(response.status_code, headers, text=_reason(body), token=token, had_token=had_token)


def _reason(body: bytes) -> str:
    """The text of a refusal's body: `{"error": …}`, or `{"errors": [{"message": …}]}`."""
    with suppress(ValueError, RecursionError, AttributeError, TypeError, LookupError):
        said = json.loads(body)
        texts = said.get("error") or [one["message"] for one in said["errors"]]
        return texts if isinstance(texts, str) else ", ".join(map(str, texts))
    return ""


def redact(error: BaseException, secret: str | None) -> None:
    """Removes a secret, and anything that looks like one, from the texts of an error and of all errors chained to it."""
    for link in _chain(error):
        link.args = tuple(redacted(part, secret) if isinstance(part, str) else part for part in link.args)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and link not in seen:
            seen.append(link)
            waiting += [link.__cause__, link.__context__]
            yield link
