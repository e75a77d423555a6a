"""The one place where huggingface_hub's and httpx's errors become ours.

A table, most specific first; what is in no row is a mistake of the program and keeps its traceback. Texts say
what to do next and repeat nothing that could hold a token. Sends nothing itself.
"""

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Final
from urllib.parse import urlsplit

from gglib_nb.errors import (
    GatedRepoError,
    GglibError,
    HubError,
    HubUnavailableError,
    InvalidConfigError,
    InvalidRepoIdError,
    InvalidTokenError,
    NetworkError,
    OfflineError,
    RateLimitedError,
    RepoNotFoundError,
    RevisionNotFoundError,
)

_BAD_TOKEN: Final = "Invalid credentials in Authorization header"  # noqa: S105  # the Hub's text for one
_LOG_IN: Final = "log in with `hf auth login` or set HF_TOKEN"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, so that an error's text can name it.

    Attributes:
        endpoint: The hub's base URL.
        repo_id: None where no repository was asked about.
        revision: None is the default branch.
        path: A file's path in the repository; None where no file was asked for.
    """

    endpoint: str
    repo_id: str | None = None
    revision: str | None = None
    path: str | None = None

    @property
    def page(self) -> str:
        """Address of the repository's page, for a person to open."""
        return f"{self.endpoint}/{self.repo_id}"


@dataclass(frozen=True, slots=True)
class _Trouble:
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
    def host(self) -> str:
        """The hub's name in the network."""
        return urlsplit(self.asked.endpoint).netloc


Builder = Callable[[_Trouble], GglibError]


def hub_error(error: BaseException, asked: Asked) -> GglibError | None:
    """Our error for one of huggingface_hub's or httpx's; None for any other."""
    trouble = _Trouble(error, asked)
    return next((build(trouble) for kind, build in _table() if isinstance(error, kind)), None)


def redact(error: BaseException, secret: str | None) -> None:
    """Takes a secret out of the texts of an error and of all that are chained to it."""
    if not secret:
        return
    for link in _chain(error):
        link.args = tuple(part.replace(secret, "…") if isinstance(part, str) else part for part in link.args)
        if isinstance(message := getattr(link, "server_message", None), str):
            vars(link)["server_message"] = message.replace(secret, "…")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds the hub asks to wait; None where it does not say.

    `RateLimit` comes with every answer, so it counts only with nothing left (IETF draft ratelimit-headers);
    else `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3).
    """
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    # A date without a zone is in UTC.
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


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
    from huggingface_hub.utils import httpx

    # Newer than the oldest huggingface_hub that is supported.
    log_in_failures = [getattr(errors, name, None) for name in ("OIDCError", "DeviceCodeError")]
    return (
        (errors.OfflineModeIsEnabled, _offline),
        (errors.GatedRepoError, _gated),
        (errors.RepositoryNotFoundError, _no_repository),
        (errors.RevisionNotFoundError, _no_revision),
        (errors.RemoteEntryNotFoundError, _no_file),
        (errors.DisabledRepoError, _disabled),
        (errors.HfHubHTTPError, _by_status),
        (errors.HFValidationError, _invalid_id),
        (errors.LocalTokenNotFoundError, _not_logged_in),
        *((kind, _not_logged_in) for kind in log_in_failures if kind is not None),
        (httpx.HTTPStatusError, _by_status),
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
    )


def _offline(trouble: _Trouble) -> GglibError:
    return OfflineError(
        f"Offline mode is on, so {trouble.asked.endpoint} was not asked; unset HF_HUB_OFFLINE to go on."
    )


def _gated(trouble: _Trouble) -> GglibError:
    if trouble.had_token:
        text = f"ask for access on {trouble.asked.page}, where the owners may have to approve it, and try again"
    else:
        text = f"accept its terms on {trouble.asked.page}, then {_LOG_IN}, and try again"
    return GatedRepoError(f"{trouble.asked.repo_id} is gated: {text}.", trouble.asked.page)


def _no_repository(trouble: _Trouble) -> GglibError:
    if trouble.had_token:
        text = "or the token does not open it. Check the spelling and the token's rights"
    else:
        text = f"or it is private. Check the spelling; for a private one {_LOG_IN}"
    return RepoNotFoundError(f"There is no repository {trouble.asked.repo_id} at {trouble.asked.endpoint}, {text}.")


def _no_revision(trouble: _Trouble) -> GglibError:
    return RevisionNotFoundError(f"{trouble.asked.repo_id} has no branch, tag or commit {trouble.asked.revision!r}.")


def _no_file(trouble: _Trouble) -> GglibError:
    return HubError(f"{trouble.asked.repo_id} has no file {trouble.asked.path!r} at {trouble.asked.revision}.")


def _disabled(trouble: _Trouble) -> GglibError:
    return RepoNotFoundError(
        f"{trouble.asked.repo_id} was disabled by the Hub or its owner; choose another repository."
    )


def _invalid_id(trouble: _Trouble) -> GglibError:
    return InvalidRepoIdError(f"{trouble.asked.repo_id!r} is not a repository id. Write owner/name.")


def _not_logged_in(trouble: _Trouble) -> GglibError:
    return InvalidTokenError(f"The stored login for {trouble.host} could not be used; {_LOG_IN}.")


def _by_status(trouble: _Trouble) -> GglibError:
    status = trouble.status
    if status >= 500 or status == 408:
        return HubUnavailableError(f"{trouble.asked.endpoint} failed ({status}); try again later.")
    return _BY_STATUS.get(status, _refused)(trouble)


def _unauthorised(trouble: _Trouble) -> GglibError:
    # Over plain HTTP huggingface_hub does not take a bare 401 for a missing repository, as it does over TLS.
    if _BAD_TOKEN in trouble.server_text or trouble.asked.repo_id is None:
        return InvalidTokenError(f"{trouble.asked.endpoint} does not accept the token: {_LOG_IN} again.")
    return _no_repository(trouble)


def _forbidden(trouble: _Trouble) -> GglibError:
    what = trouble.asked.repo_id or trouble.asked.endpoint
    return InvalidTokenError(f"The token may not read {what} (403); give it that right, or {_LOG_IN} with another.")


def _not_found(trouble: _Trouble) -> GglibError:
    if trouble.asked.repo_id is not None:
        return _no_repository(trouble)
    return InvalidConfigError(f"{trouble.asked.endpoint} does not answer as a Hub does (404); check HF_ENDPOINT.")


def _rate_limited(trouble: _Trouble) -> GglibError:
    wait_s = retry_after_s(trouble.headers)
    when = "later" if wait_s is None else f"in {wait_s:.0f} s"
    advice = "" if trouble.had_token else f" Who is logged in may ask more often: {_LOG_IN}."
    return RateLimitedError(f"{trouble.asked.endpoint} asks to slow down (429); try again {when}.{advice}", wait_s)


def _refused(trouble: _Trouble) -> GglibError:
    text = trouble.server_text[:200]
    return HubError(f"{trouble.asked.endpoint} refused the request ({trouble.status}): {text or 'no reason given'}.")


_BY_STATUS: Final[Mapping[int, Builder]] = {
    401: _unauthorised,
    403: _forbidden,
    404: _not_found,
    429: _rate_limited,
}


def _no_answer(trouble: _Trouble) -> GglibError:
    return NetworkError(f"{trouble.host} did not answer in time; check the connection and try again.")


def _proxy_failed(trouble: _Trouble) -> GglibError:
    return NetworkError(f"The proxy on the way to {trouble.host} failed; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY.")


def _unreachable(trouble: _Trouble) -> GglibError:
    # httpx may keep only the text of the TLS library's error.
    if "SSL:" in str(trouble.error) or any(isinstance(link, ssl.SSLError) for link in _chain(trouble.error)):
        return InvalidConfigError(
            f"The certificate of {trouble.host} cannot be trusted. Behind a company's proxy set SSL_CERT_FILE to its "
            "CA file; otherwise check the computer's clock."
        )
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
    return HubUnavailableError(
        f"{trouble.asked.endpoint} did not answer as a Hub does; open it in a browser: a login page of the network may be in "
        "the way, or HF_ENDPOINT is wrong."
    )
