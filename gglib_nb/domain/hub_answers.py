"""What the Hub's answers mean: an error of `gglib_nb.errors`. Codes, in order, as in `hf_raise_for_status`."""

import re
from collections.abc import Mapping
from typing import Final, Literal
from urllib.parse import quote

from gglib_nb.domain.http_rules import asked_wait_s, host_text, is_web_page, origin_of, redirect_target
from gglib_nb.domain.text import printable, redacted
from gglib_nb.domain.units import duration
from gglib_nb.domain.values import Value
from gglib_nb.errors import (
    CertificateError,
    GatedRepoError,
    HubError,
    HubUnavailableError,
    InvalidConfigError,
    InvalidTokenError,
    ProxyError,
    RateLimitedError,
    RepoNotFoundError,
    RevisionNotFoundError,
)

LOG_IN: Final = "log in with `hf auth login` or %gguf login, or set HF_TOKEN"
_BAD_TOKEN: Final = "Invalid credentials in Authorization header"  # noqa: S105  # the Hub's text for one
_DISABLED: Final = "Access to this resource is disabled."
_TEXT_LENGTH: Final = 200
_LONGEST_REASON: Final = 2000
_WRONG_TIME: Final = ("has expired", "not yet valid")
_WRONG_NAME: Final = ("ostname mismatch", "IP address mismatch", "doesn't match")

COMMIT: Final = re.compile(r"[0-9a-f]{40,64}")
"""The id of a commit; any other revision is a branch or a tag."""


class Asked(Value, frozen=True):
    """What was requested, to name it in an error's text."""

    endpoint: str  # the hub's base URL
    repo_id: str | None = None  # None: a search
    revision: str | None = None  # None is the default branch
    path: str | None = None  # of a file; None: no file was requested
    has_login: bool = True  # False: it gets no token, so logging in does not help

    @property
    def page(self) -> str:
        """Address of the repository's page."""
        return self.endpoint if self.repo_id is None else f"{self.endpoint}/{self.repo_id}"

    @property
    def file_url(self) -> str:
        """Address of the file's bytes on the hub."""
        revision = quote(self.revision or "", safe="")
        path = quote(self.path or "", errors="replace")  # a hostile listing may have half of a surrogate pair in it
        return f"{self.endpoint}/{self.repo_id}/resolve/{revision}/{path}"

    @property
    def is_search(self) -> bool:
        """Whether repositories were searched; a path without a repository is a route of the hub."""
        return self.repo_id is None and self.path is None

    @property
    def what(self) -> str:
        """The file or route, the repository, or the search."""
        return self.path or self.repo_id or "the search"


class Refusal(Value, frozen=True):
    """An answer that refuses a request."""

    status: int
    code: str = ""  # the Hub's own; empty without one
    text: str = ""  # its reason in words, without tokens; empty without one
    had_token: bool = False  # whether the request carried a token
    wait_s: float | None = None  # seconds it asks to wait; None: it does not say
    is_web_page: bool = False  # without the Hub's headers, so it is not the Hub's

    @classmethod
    def of(
        cls, status: int, headers: Mapping[str, str], *, text: str = "", token: str | None = None, had_token: bool
    ) -> "Refusal":
        """From an answer; header names in lower case. `text` is what its body says, `token` must not be in it."""
        text = redacted(headers.get("x-error-message") or text, token)
        said = " ".join(printable(text[:_LONGEST_REASON]).split())
        code = "DisabledRepo" if (status, said) == (403, _DISABLED) else headers.get("x-error-code", "")
        is_foreign = is_web_page(headers) and not (code or "x-error-message" in headers)
        return cls(status, code, said, had_token, asked_wait_s(status, headers), is_foreign)


def hub_refusal(refusal: Refusal, asked: Asked) -> HubError | InvalidConfigError:  # noqa: C901 - one case an answer
    """The error that says what happened and what to do."""
    is_bad_token = refusal.status == 401 and _BAD_TOKEN in refusal.text
    # A mirror may respond to a search with such a code too.
    match refusal.code if asked.repo_id is not None else "", refusal.status:
        case "GatedRepo", _:
            return _gated(refusal, asked)
        case "RepoNotFound", _:
            return _no_repository(refusal, asked)
        case "EntryNotFound", _ if asked.path is not None:
            where = "on its default branch" if asked.revision is None else f"at {asked.revision}"
            return HubError(f"{asked.repo_id} has no file {asked.path!r} {where}; %gguf plan shows the current files.")
        case "RevisionNotFound" | "EntryNotFound", _:  # a mirror may respond to an unknown revision with the second
            return _no_revision(asked)
        case "DisabledRepo", _:
            return RepoNotFoundError(
                f"{asked.repo_id} was disabled by the Hub or its owner; choose another repository."
            )
        case _, 401 | 403 | 407 if refusal.is_web_page or refusal.status == 407:
            return proxy_refusal(asked.endpoint, refusal.status)
        case _, 401 if asked.is_search and not is_bad_token:
            return no_search(asked, f"or {LOG_IN} if it requires a login")
        # Over plain HTTP huggingface_hub does not take a bare 401 for a missing repository, as it does over TLS.
        case _, 401 | 404 if asked.repo_id is not None and not is_bad_token:
            return _no_repository(refusal, asked)
        case _, 401:
            return InvalidTokenError(f"{asked.endpoint} does not accept the token: {LOG_IN} again.")
        case _, 403:
            return _forbidden(refusal, asked)
        case _, 404:
            return InvalidConfigError(f"{asked.endpoint} is not a Hub (404). Check HF_ENDPOINT.")
        case _, 429:
            return _rate_limited(refusal, asked)
        case _, status if status in (408, 425) or status >= 500:
            return HubUnavailableError(f"{asked.endpoint} failed ({status}) at {asked.what}; try again later.")
        case _, status:
            reason = refusal.text[:_TEXT_LENGTH].rstrip(". ") or "no reason given"
            return HubError(f"{asked.endpoint} refused {asked.what} ({status}): {reason}.")


def redirected(url: str, location: str, asked: Asked) -> str:
    """The address that an answer redirects to, or names as the next page; a `HubUnavailableError` if it is invalid."""
    try:
        return redirect_target(url, location, asked.endpoint)
    except ValueError:
        host = host_text(origin_of(url))
        raise HubUnavailableError(f"{host} redirects {asked.what} to an invalid address; try again later.") from None


def proxy_refusal(host: str, status: int) -> ProxyError:
    """The error for a proxy that wants credentials (status 407) or forbids a host."""
    if status == 407:
        return ProxyError(
            f"The proxy for {host} asks for a user name and password (407). Set HTTPS_PROXY and "
            "HTTP_PROXY to http://name:password@proxy:port, then restart the kernel."
        )
    return ProxyError(
        f"A proxy or firewall refuses connections to {host} ({status}). Ask its administrator to allow that "
        "host, or name the host in NO_PROXY if it can be reached directly, then restart the kernel."
    )


def certificate_refusal(host: str, said: str) -> CertificateError:
    """The error for a refused certificate of a host, or of a proxy that opens TLS; `said` is the TLS library's text."""
    if any(words in said for words in _WRONG_TIME):
        return CertificateError(
            f"The certificate of {host} has expired or is not valid yet. Check this computer's clock. "
            "If it is right, try again when the certificate has been renewed."
        )
    if any(words in said for words in _WRONG_NAME):
        return CertificateError(
            f"The server at {host} has a certificate for another name. Check HF_ENDPOINT, the proxy, and whether the "
            "network asks for a login."
        )
    return CertificateError(
        f"The certificate of {host} is not trusted. If a proxy inspects TLS, set SSL_CERT_FILE or "
        "REQUESTS_CA_BUNDLE to its certificate authority and restart the kernel. Otherwise check the computer's clock."
    )


def _gated(refusal: Refusal, asked: Asked) -> HubError:
    """Only the words of the Hub's `X-Error-Message` say the state of access."""
    said = refusal.text.casefold()
    state: Literal["login", "not requested", "pending", "rejected"] = "not requested"
    text = (
        f"request access on {asked.page}: accept its terms, wait for approval if its authors require it, then try again"
    )
    if not refusal.had_token:
        state, text = "login", f"accept its terms on {asked.page}, then {LOG_IN}, and try again"
    elif "rejected" in said:
        state, text = "rejected", f"its authors have rejected your request for access; contact them on {asked.page}"
    elif "awaiting" in said or "pending" in said:
        state, text = "pending", f"your access request is waiting for its authors; see its state on {asked.page}"
    return GatedRepoError(f"{asked.repo_id} is gated: {text}.", asked.page, state)


def _no_repository(refusal: Refusal, asked: Asked) -> HubError:
    if not asked.has_login:
        text = "or it is not public. Check the spelling"
    elif refusal.had_token:
        text = "or the token has no access to it. Check the spelling and the token's permissions"
    else:
        text = f"or it is private. Check the spelling; for a private repository, {LOG_IN}"
    return RepoNotFoundError(f"There is no repository {asked.repo_id} at {asked.endpoint}, {text}.")


def _no_revision(asked: Asked) -> HubError:
    if asked.revision is None:
        return RevisionNotFoundError(f"{asked.repo_id} has no default branch yet; choose another repository.")
    if COMMIT.fullmatch(asked.revision):
        return RevisionNotFoundError(
            f"{asked.repo_id} has no commit {asked.revision}: its owner may have rewritten its history. "
            "Queue it again to get the current files."
        )
    return RevisionNotFoundError(f"{asked.repo_id} has no branch or tag {asked.revision!r}.")


def no_search(asked: Asked, otherwise: str) -> HubError:
    """The error for a hub, perhaps a mirror, without search; `otherwise` is the second thing to do."""
    return HubError(f"{asked.endpoint} does not support search: name a repository as owner/name, {otherwise}.")


def _forbidden(refusal: Refusal, asked: Asked) -> HubError:
    if not asked.has_login:
        return RepoNotFoundError(f"{asked.what} at {asked.endpoint} is not public (403). Choose another repository.")
    if refusal.had_token:
        return InvalidTokenError(
            f"The token has no permission to read {asked.page} (403). Give it that permission, or {LOG_IN} with "
            "another."
        )
    return InvalidTokenError(f"{asked.page} is restricted (403); {LOG_IN} with an account that may read it.")


def _rate_limited(refusal: Refusal, asked: Asked) -> HubError:
    advice = "" if refusal.had_token or not asked.has_login else f" Logged-in users have a higher limit: {LOG_IN}."
    when = "later" if refusal.wait_s is None else f"in {duration(refusal.wait_s)}"
    text = f"{asked.endpoint} limits the number of requests (429). Try again {when}.{advice}"
    return RateLimitedError(text, refusal.wait_s)
