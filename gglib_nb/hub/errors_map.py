"""The one place where huggingface_hub's and httpx's errors become ours.

A table, most specific first; what is in no row is a mistake of the program and keeps its traceback. What an answer of
the Hub means stands in `domain.hub_answers`, for the engine too. Sends nothing itself.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from urllib.parse import urlsplit

from gglib_nb.domain.http_rules import asked_wait_s
from gglib_nb.domain.hub_answers import (
    LOG_IN,
    Asked,
    Refusal,
    RefusalCode,
    certificate_refusal,
    hub_refusal,
    no_search,
    proxy_refusal,
)
from gglib_nb.domain.secrets import redacted
from gglib_nb.domain.values import Value
from gglib_nb.errors import (
    GglibError,
    HubUnavailableError,
    InvalidConfigError,
    InvalidRepoIdError,
    InvalidTokenError,
    NetworkError,
    OfflineError,
)
from gglib_nb.network.proxies import is_final


class _Trouble(Value, frozen=True):
    """A foreign error with what was asked, as the texts below need it."""

    error: BaseException
    asked: Asked

    @property
    def status(self) -> int:
        """The HTTP status; 0 where there was no answer."""
        return getattr(getattr(self.error, "response", None), "status_code", 0)

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's."""
        return getattr(getattr(self.error, "response", None), "headers", {})

    @property
    def had_token(self) -> bool:
        """Whether the refused request carried one."""
        response = getattr(self.error, "response", None)
        return response is not None and "authorization" in response.request.headers

    @property
    def server_text(self) -> str:
        """What the hub said in words; empty where nothing."""
        return " ".join((getattr(self.error, "server_message", None) or "").split())

    @property
    def refusal(self) -> Refusal:
        """The answer as the one map of refusals wants it."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        wait_s = asked_wait_s(self.status, headers)
        return Refusal.of(self.status, headers, text=self.server_text, had_token=self.had_token, wait_s=wait_s)

    @property
    def host(self) -> str:
        """Whom the failed request was for, in the network: the hub, or its storage."""
        with suppress(RuntimeError, AttributeError):  # an error of httpx that was raised without its request
            if netloc := self.error.request.url.netloc:  # type: ignore[attr-defined]  # as httpx's have it
                return str(netloc, "ascii")
        return urlsplit(self.asked.endpoint).netloc


Builder = Callable[[_Trouble], GglibError]


def hub_error(error: BaseException, asked: Asked) -> GglibError | None:
    """Our error for one of huggingface_hub's or httpx's; None for any other."""
    trouble = _Trouble(error, asked)
    return next((build(trouble) for kind, build in _table() if isinstance(error, kind)), None)


def redact(error: BaseException, secret: str | None) -> None:
    """Takes a secret, and whatever looks like one, out of the texts of an error and of all that are chained to it."""
    for link in _chain(error):
        link.args = tuple(redacted(part, secret) if isinstance(part, str) else part for part in link.args)
        if isinstance(message := getattr(link, "server_message", None), str):
            vars(link)["server_message"] = redacted(message, secret)


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
def _table() -> tuple[tuple[type[BaseException], Builder], ...]:
    """Built at the first error: importing huggingface_hub takes a while."""
    from huggingface_hub import errors

    from gglib_nb.network.http_library import httpx

    # Newer than the oldest huggingface_hub that is supported.
    log_in_failures = [getattr(errors, name, None) for name in ("OIDCError", "DeviceCodeError")]
    return (
        (errors.OfflineModeIsEnabled, _offline),
        (errors.GatedRepoError, _as("GatedRepo")),
        (errors.RepositoryNotFoundError, _as("RepoNotFound")),
        (errors.RevisionNotFoundError, _as("RevisionNotFound")),
        (errors.RemoteEntryNotFoundError, _as("EntryNotFound")),
        (errors.DisabledRepoError, _as("DisabledRepo")),
        (errors.HfHubHTTPError, _by_answer),
        (errors.HFValidationError, _invalid_id),
        (errors.LocalTokenNotFoundError, _not_logged_in),
        *((kind, _not_logged_in) for kind in log_in_failures if kind is not None),
        (httpx.HTTPStatusError, _by_answer),
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


def _offline(trouble: _Trouble) -> GglibError:
    return OfflineError(
        f"Offline mode is on, so {trouble.asked.endpoint} was not asked; unset HF_HUB_OFFLINE to go on."
    )


def _as(code: RefusalCode) -> Builder:
    """What huggingface_hub has recognised, by its class rather than by the answer's header."""
    return lambda trouble: hub_refusal(replace(trouble.refusal, code=code), trouble.asked, time.time())


def _by_answer(trouble: _Trouble) -> GglibError:
    return hub_refusal(trouble.refusal, trouble.asked, time.time())


def _invalid_id(trouble: _Trouble) -> GglibError:
    return InvalidRepoIdError(f"{trouble.asked.repo_id!r} is not a repository id. Write owner/name.")


def _not_logged_in(trouble: _Trouble) -> GglibError:
    return InvalidTokenError(f"The stored login for {trouble.host} could not be used; {LOG_IN}.")


def _no_answer(trouble: _Trouble) -> GglibError:
    return NetworkError(f"{trouble.host} did not answer in time; check the connection and try again.")


def _proxy_failed(trouble: _Trouble) -> GglibError:
    from gglib_nb.network.client import refused_status

    if (status := refused_status(trouble.error)) is not None and is_final(status):
        return proxy_refusal(trouble.host, status)
    return NetworkError(f"The proxy on the way to {trouble.host} failed; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY.")


def _unreachable(trouble: _Trouble) -> GglibError:
    import ssl

    # httpx may keep only the text of the TLS library's error.
    if "SSL:" in str(trouble.error) or any(isinstance(link, ssl.SSLError) for link in _chain(trouble.error)):
        said = " ".join(str(link) for link in _chain(trouble.error))
        return certificate_refusal(trouble.host, said)
    return NetworkError(f"{trouble.host} cannot be reached; check the connection, HF_ENDPOINT and the proxy.")


def _bad_address(trouble: _Trouble) -> GglibError:
    return InvalidConfigError(f"{trouble.asked.endpoint} led to an address that cannot be used; check HF_ENDPOINT.")


def _unusable(trouble: _Trouble) -> GglibError:
    return HubUnavailableError(
        f"{trouble.asked.endpoint} sent what cannot be used ({type(trouble.error).__name__}); try again later."
    )


def _broken_off(trouble: _Trouble) -> GglibError:
    return NetworkError(f"The connection to {trouble.host} broke off; check the network and try again.")


def _not_json(trouble: _Trouble) -> GglibError:
    if trouble.asked.repo_id is None:
        return no_search(trouble.asked, "or check HF_ENDPOINT")
    return HubUnavailableError(
        f"{trouble.asked.endpoint} did not answer as a Hub does; open it in a browser: a login page of the network may be in "
        "the way, or HF_ENDPOINT is wrong."
    )
