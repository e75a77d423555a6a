"""The one place that maps errors of httpx and huggingface_hub, and answers of an unknown form, to our errors.

An error in no row of the table is a bug and keeps its traceback. The meaning of the Hub's refusals is in
`domain.hub_answers`, because the engine needs it too. Sends no requests.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gglib_nb.domain.hub_answers import LOG_IN, Asked, Refusal, certificate_refusal, hub_refusal, proxy_refusal
from gglib_nb.domain.text import printable, redacted
from gglib_nb.errors import (
    GglibError,
    HubError,
    HubUnavailableError,
    InvalidConfigError,
    InvalidRepoIdError,
    InvalidTokenError,
    NetworkError,
    OfflineError,
)
from gglib_nb.network.proxies import is_final

if TYPE_CHECKING:
    from gglib_nb.network.client import httpx

OFFLINE: Final = "Offline mode is on, so no request was sent to {endpoint}. Unset HF_HUB_OFFLINE to continue."
_MOST_SHOWN: Final = 120
_REFUSED: Final = (HubError, "")  # the answer has the meaning
_NOT_LOGGED_IN: Final = (InvalidTokenError, f"The stored login for {{host}} could not be used; {LOG_IN}.")
_BAD_ADDRESS: Final = (InvalidConfigError, "{endpoint} redirected to an invalid address. Check HF_ENDPOINT.")
_UNUSABLE: Final = (HubUnavailableError, "{endpoint} sent an invalid response ({kind}); try again later.")
# By the names of the classes, the most special one of an error first: importing the libraries takes half a second, and
# older versions lack some. Those of huggingface_hub come from renewing a login, and from a user's own hooks.
_MEANINGS: Final[dict[str, tuple[type[GglibError], str]]] = {
    "OfflineModeIsEnabled": (OfflineError, OFFLINE),
    **dict.fromkeys(("HfHubHTTPError", "HTTPStatusError"), _REFUSED),
    **dict.fromkeys(("LocalTokenNotFoundError", "OIDCError", "DeviceCodeError"), _NOT_LOGGED_IN),
    "TimeoutException": (NetworkError, "{host} did not answer in time; check the connection and try again."),
    "ProxyError": (NetworkError, "The proxy for {host} failed; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY."),
    "ConnectError": (NetworkError, "{host} cannot be reached; check the connection, HF_ENDPOINT and the proxy."),
    **dict.fromkeys(("InvalidURL", "UnsupportedProtocol"), _BAD_ADDRESS),
    **dict.fromkeys(("TooManyRedirects", "DecodingError", "CookieConflict"), _UNUSABLE),
    "HTTPError": (NetworkError, "The connection to {host} was lost; check the network and try again."),
}


@contextmanager
def mapped(asked: Asked) -> Iterator[None]:
    """Raises our error for one of httpx or huggingface_hub; no error's text keeps what looks like a secret."""
    try:
        yield
    except GglibError:
        raise
    except Exception as error:
        redact(error)
        if (ours := hub_error(error, asked)) is None:
            raise
        raise ours from error


@contextmanager
def reading() -> Iterator[None]:
    """Raises `HubUnavailableError` for an answer of another form."""
    try:
        yield
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, InvalidRepoIdError) as error:
        said = " ".join(printable(redacted(str(error)[:_MOST_SHOWN])).split())
        raise HubUnavailableError(
            f"The Hub's answer cannot be read ({type(error).__name__}: {said}); try again later, or check HF_ENDPOINT."
        ) from error


def hub_error(error: BaseException, asked: Asked) -> GglibError | None:
    """Our error for one of httpx's or huggingface_hub's; None for any other."""
    name = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _MEANINGS), None)
    if name is None:
        return None
    if _MEANINGS[name] is _REFUSED:
        return hub_refusal(refusal(error.response, b""), asked)  # type: ignore[attr-defined]  # both have one
    request = _request_of(error)  # to the hub, or to another host that it redirects to
    host = str(request.url.netloc, "ascii") if request is not None else urlsplit(asked.endpoint).netloc
    status = re.match(r"\d{3}\b", str(error))
    if name == "ProxyError" and status is not None and is_final(int(status[0])):
        return proxy_refusal(host, int(status[0]))
    # httpx may keep only the text of the TLS library's error.
    said = " ".join(f"{type(link).__name__}: {link}" for link in _chain(error))
    if name == "ConnectError" and "SSL" in said:
        return certificate_refusal(host, said)
    kind, text = _MEANINGS[name]
    return kind(text.format(host=host, endpoint=asked.endpoint, kind=type(error).__name__))


def refusal(response: "httpx.Response", body: bytes) -> Refusal:
    """The refusal in an answer; the request's token is removed from its reason."""
    headers = {name.lower(): text for name, text in response.headers.items()}
    token = _token_of(response.request)
    return Refusal.of(response.status_code, headers, text=_reason(body), token=token, had_token=bool(token))


def _reason(body: bytes) -> str:
    """The text of a refusal's body: `{"error": …}`, or `{"errors": [{"message": …}]}`."""
    with suppress(ValueError, RecursionError, AttributeError, TypeError, LookupError):
        said = json.loads(body)
        texts = said.get("error") or [one["message"] for one in said["errors"]]
        return texts if isinstance(texts, str) else ", ".join(map(str, texts))
    return ""


def redact(error: BaseException) -> None:
    """Removes the request's token, and what looks like a secret, from an error's texts and all errors chained to it."""
    secret = _token_of(_request_of(error))
    for link in _chain(error):
        link.args = tuple(redacted(part, secret) if isinstance(part, str) else part for part in link.args)


def _request_of(error: BaseException) -> "httpx.Request | None":
    with suppress(RuntimeError):  # an httpx error that was raised without its request
        return getattr(error, "request", None)
    return None


def _token_of(request: "httpx.Request | None") -> str | None:
    return None if request is None else request.headers.get("authorization", "").removeprefix("Bearer ")


def _chain(error: BaseException) -> list[BaseException]:
    found = [error]
    for link in found:  # it grows
        found += [one for one in (link.__cause__, link.__context__) if one is not None and one not in found]
    return found
