"""The one place where httpx's and huggingface_hub's errors become ours.

A table, most specific first; an error in no row is a mistake of the program and keeps its traceback. What a refusal of
the Hub means is in `domain.hub_answers`, for the engine too. Sends nothing itself.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gglib_nb.domain.http_rules import asked_wait_s
from gglib_nb.domain.hub_answers import (
    LOG_IN,
    Asked,
    Refusal,
    certificate_refusal,
    hub_refusal,
    no_search,
    proxy_refusal,
)
from gglib_nb.domain.secrets import redacted
from gglib_nb.errors import (
    GglibError,
    HubUnavailableError,
    InvalidConfigError,
    InvalidTokenError,
    NetworkError,
    OfflineError,
)
from gglib_nb.network.proxies import is_final

if TYPE_CHECKING:
    from gglib_nb.network.http_library import httpx

_Build = Callable[[Any, Asked], GglibError]


def hub_error(error: BaseException, asked: Asked) -> GglibError | None:
    """Our error for one of httpx's or huggingface_hub's; None for any other."""
    build = next((build for kind, build in _table() if isinstance(error, kind)), None)
    return None if build is None else build(error, asked)


def refusal(response: "httpx.Response", body: bytes, token: str | None) -> Refusal:
    """An answer that is a no; its reason without the token, should it repeat that."""
    headers = {name.lower(): text for name, text in response.headers.items()}
    text = redacted(headers.get("x-error-message") or _reason(body), token)
    wait_s = asked_wait_s(response.status_code, headers)
    had_token = "authorization" in response.request.headers
    return Refusal.of(response.status_code, headers, text=text, had_token=had_token, wait_s=wait_s)


def _reason(body: bytes) -> str:
    """The words of a refusal's body: `{"error": …}`, or `{"errors": [{"message": …}]}`."""
    with suppress(ValueError, RecursionError, AttributeError, TypeError):
        said = json.loads(body)
        texts = said.get("error") or [one["message"] for one in said["errors"]]
        return texts if isinstance(texts, str) else ", ".join(map(str, texts))
    return ""


def redact(error: BaseException, secret: str | None) -> None:
    """Takes a secret, and whatever looks like one, out of the texts of an error and of all that are chained to it."""
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


@cache
def _table() -> tuple[tuple[type[BaseException], _Build], ...]:
    """Built at the first error: importing huggingface_hub takes a while."""
    from huggingface_hub import errors

    from gglib_nb.network.http_library import httpx

    # Newer than the oldest huggingface_hub that is supported.
    log_in_failures = [getattr(errors, name, None) for name in ("OIDCError", "DeviceCodeError")]
    return (
        # From renewing a login, and from the hooks of a user's own client.
        (errors.OfflineModeIsEnabled, _offline),
        (errors.HfHubHTTPError, _refused),
        (errors.LocalTokenNotFoundError, _not_logged_in),
        *((kind, _not_logged_in) for kind in log_in_failures if kind is not None),
        (httpx.HTTPStatusError, _refused),
        (httpx.TimeoutException, _no_answer),
        (httpx.ProxyError, _proxy_failed),
        (httpx.ConnectError, _unreachable),
        (httpx.InvalidURL, _bad_address),
        (httpx.UnsupportedProtocol, _bad_address),
        (httpx.TooManyRedirects, _unusable),
        (httpx.DecodingError, _unusable),
        (httpx.CookieConflict, _unusable),
        (httpx.HTTPError, _broken_off),
        (json.JSONDecodeError, _not_json),
        (UnicodeDecodeError, _not_json),
        (RecursionError, _not_json),  # JSON that is nested deeper than anything the Hub sends
    )


def _host(error: BaseException, asked: Asked) -> str:
    """Which host the failed request was for: the hub, or another that it redirects to."""
    with suppress(RuntimeError, AttributeError):  # an error of httpx that was raised without its request
        if netloc := error.request.url.netloc:  # type: ignore[attr-defined]  # as httpx's have it
            return str(netloc, "ascii")
    return urlsplit(asked.endpoint).netloc


def _offline(_: BaseException, asked: Asked) -> GglibError:
    return OfflineError(
        f"Offline mode is on, so no request was sent to {asked.endpoint}. Unset HF_HUB_OFFLINE to continue."
    )


def _refused(error: Any, asked: Asked) -> GglibError:  # noqa: ANN401  # of httpx or huggingface_hub
    return hub_refusal(refusal(error.response, b"", None), asked, time.time())


def _not_logged_in(error: BaseException, asked: Asked) -> GglibError:
    return InvalidTokenError(f"The stored login for {_host(error, asked)} could not be used; {LOG_IN}.")


def _no_answer(error: BaseException, asked: Asked) -> GglibError:
    return NetworkError(f"{_host(error, asked)} did not answer in time; check the connection and try again.")


def _proxy_failed(error: BaseException, asked: Asked) -> GglibError:
    from gglib_nb.network.client import refused_status

    host = _host(error, asked)
    if (status := refused_status(error)) is not None and is_final(status):
        return proxy_refusal(host, status)
    return NetworkError(f"The proxy for {host} failed; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY.")


def _unreachable(error: BaseException, asked: Asked) -> GglibError:
    import ssl

    host, said = _host(error, asked), " ".join(str(link) for link in _chain(error))
    # httpx may keep only the text of the TLS library's error.
    if "SSL:" in said or any(isinstance(link, ssl.SSLError) for link in _chain(error)):
        return certificate_refusal(host, said)
    return NetworkError(f"{host} cannot be reached; check the connection, HF_ENDPOINT and the proxy.")


def _bad_address(_: BaseException, asked: Asked) -> GglibError:
    return InvalidConfigError(f"{asked.endpoint} redirected to an invalid address. Check HF_ENDPOINT.")


def _unusable(error: BaseException, asked: Asked) -> GglibError:
    return HubUnavailableError(f"{asked.endpoint} sent an invalid response ({type(error).__name__}); try again later.")


def _broken_off(error: BaseException, asked: Asked) -> GglibError:
    return NetworkError(f"The connection to {_host(error, asked)} was lost; check the network and try again.")


def _not_json(_: BaseException, asked: Asked) -> GglibError:
    if asked.repo_id is None:
        return no_search(asked, "or check HF_ENDPOINT")
    return HubUnavailableError(
        f"{asked.endpoint} did not answer like a Hub. Open it in a browser: the network may ask for a login, "
        "or HF_ENDPOINT may be wrong."
    )
