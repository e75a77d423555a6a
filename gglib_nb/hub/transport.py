"""Sends requests to a hub, with timeouts, retries, and the token for its own origin only.

It does not use `HfApi`: its listings have no timeout, sleep for as long as a 429 asks, and cannot be interrupted;
`model_info` never retries. The token and the settings come from huggingface_hub, which is imported at the first
request, because that takes half a second. Knows no repositories.
"""

import json
import platform
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from gglib_nb.domain import units
from gglib_nb.domain.http_rules import MOST_REDIRECTS, backoff_s, content_range, is_encoded, origin_of
from gglib_nb.domain.hub_answers import Asked, hub_refusal, no_search, redirected
from gglib_nb.domain.text import INVALID_CHARACTER, can_be_sent
from gglib_nb.domain.values import Value
from gglib_nb.errors import (
    GatedRepoError,
    GglibError,
    HubError,
    HubUnavailableError,
    InvalidConfigError,
    InvalidTokenError,
    ManagerClosedError,
    NetworkError,
    OfflineError,
    RateLimitedError,
    RepoNotFoundError,
)
from gglib_nb.hub.errors_map import OFFLINE, hub_error, mapped, refusal

if TYPE_CHECKING:
    from gglib_nb.network.client import httpx

_Kind = TypeVar("_Kind")
Json = dict[str, Any]
Pairs = Sequence[tuple[str, str]]

TRANSIENT: Final = (NetworkError, HubUnavailableError, RateLimitedError)
_MOST_PAGES: Final = 1000  # of 1000 entries: more than any repository has; ends an endless listing
_LONGEST_WAIT_S: Final = 8.0
_LARGEST_ANSWER_BYTES: Final = 64 * 1024 * 1024  # some mirrors send a listing in one page
_LARGEST_REFUSAL_BYTES: Final = 64 * 1024
_LONGEST_ANSWER_S: Final = 60.0
_SLOWEST_BYTES_PER_SECOND: Final = 16 * 1024
_BEYOND_THE_END: Final = 416
# A mirror or proxy without a route or parameter answers so; with `X-Error-Code` it is the hub's answer.
_NO_ROUTE: Final = frozenset({*range(400, 500), 501}) - {401, 403, 407, 408, 425, 429}


class RetryPolicy(Value, frozen=True):
    """How long to retry when the hub does not respond properly."""

    tries: int = 5  # most requests sent
    first_wait_s: float = 0.75  # at most, before the second attempt; doubled before each further one, up to 8 s
    budget_s: float = 30.0  # no attempt starts later after the first; a longer wait that the hub asks for is an error
    # Of a connect and of each read; None is huggingface_hub's (`HF_HUB_ETAG_TIMEOUT`, 10 s).
    timeout_s: float | None = None

    def wait_s(self, attempt: int, error: GglibError) -> float:
        """Seconds between this attempt (from 0) and the next; the hub's own value if it stated one."""
        if isinstance(error, RateLimitedError) and error.retry_after_s is not None:
            return error.retry_after_s + 1  # the hub counts whole seconds, and one may have begun
        return backoff_s(attempt + 1, self.first_wait_s, _LONGEST_WAIT_S, random.random())  # noqa: S311  # spreads load


BRIEF: Final = RetryPolicy(tries=2, timeout_s=5.0, budget_s=10.0)
"""For what is not worth a long wait, such as a header, or a hub that has mirrors."""


class Transport:
    """Sends requests to one hub. Safe from any thread; holds nothing open between calls.

    Args:
        endpoint: The hub's base URL.
        token: None leaves it to huggingface_hub at each call (`HF_TOKEN`, `hf auth login`). It goes to the hub's
            own origin only, and into no `repr`, message or log. False: anonymous.
        is_offline: Refuse every call, as `HF_HUB_OFFLINE` does.
        retry_policy: Timeouts and retries of every call; None suits each call.
        closing: Set by `close`; by default its own.
    """

    def __init__(
        self,
        endpoint: str,
        token: str | Literal[False] | None = None,
        *,
        is_offline: bool = False,
        retry_policy: RetryPolicy | None = None,
        closing: threading.Event | None = None,
    ) -> None:
        given: str | Literal[False] | None = token if token is False else (token or "").strip() or None
        self.endpoint: Final = endpoint.rstrip("/")
        self._given_token: Callable[[], str | Literal[False] | None] = lambda: given  # no `repr` shows what it returns
        self._is_offline = is_offline
        self._retry_policy = retry_policy
        self._closing = closing or threading.Event()

    @property
    def token(self) -> str | None:
        """The token as it would be sent now; None: anonymous. May use the network, to renew a login.

        Raises:
            InvalidTokenError: No header can carry it, or the stored login cannot be used.
            InvalidConfigError: The environment has values that huggingface_hub cannot read.
        """
        _check_environment()
        from huggingface_hub import constants, get_token

        found = self._given_token()
        try:
            if found is None and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
                found = get_token()
        except Exception as error:
            said = f"The stored login cannot be read ({type(error).__name__}); log in again."
            if isinstance(error, OSError) and error.filename:
                why = f"in {error.filename} cannot be read ({error.strerror})"
                said = f"The stored login {why}; make the file readable, or log in again."
            raise hub_error(error, Asked(self.endpoint)) or InvalidTokenError(said) from error
        if found and not can_be_sent(found):
            raise InvalidTokenError(INVALID_CHARACTER)
        return found or None

    @cached_property
    def user_agent(self) -> str:
        """Our `User-Agent`, with the versions of huggingface_hub and Python.

        huggingface_hub makes the same text, but first requests a list of names from the Hub, without our proxies.
        """
        from importlib.metadata import PackageNotFoundError, version  # 25 ms, paid with the first request

        from huggingface_hub import __version__

        own = "unknown"
        with suppress(PackageNotFoundError):  # it is on the path, but not installed
            own = version("gglib_nb")
        return f"gglib_nb/{own}; hf_hub/{__version__}; python/{platform.python_version()}"

    def beside(self, endpoint: str, token: str | Literal[False], retry_policy: RetryPolicy | None) -> "Transport":
        """Another hub, or this one with another token; closed with this one."""
        return Transport(endpoint, token, is_offline=self._is_offline, retry_policy=retry_policy, closing=self._closing)

    def close(self) -> None:
        """Ends the waits of requests in progress, which raise `ManagerClosedError`, as do later ones."""
        self._closing.set()

    def json(self, route: str, asked: Asked, params: Pairs = (), *, is_brief: bool = False) -> Json:
        """The JSON object in the answer of a route below the endpoint."""
        return self._page(dict, self.endpoint + route, asked, params, is_brief=is_brief)[0]

    def pages(self, route: str, asked: Asked, params: Pairs, *, is_brief: bool = False) -> Iterator[Json]:
        """The rows of a listing; further pages are requested when their rows are needed."""
        url, urls, seen = self.endpoint + route, set[str](), set[int]()
        while url not in urls and len(urls) < _MOST_PAGES:
            urls.add(url)
            page, following = self._page(list, url, asked, params, is_brief=is_brief)
            content = hash(str(page))
            if page and content in seen:  # the hub ignores its own cursor
                break
            seen.add(content)
            yield from page
            if following is None:
                return
            url, params = redirected(url, following, asked), ()
        raise HubUnavailableError(f"{self.endpoint} sent a list that does not end. Try again later.")

    def bytes_of(self, asked: Asked, offset: int, length: int) -> bytes:
        """Bytes of a file from `offset`: fewer than `length` at its end, none after it; `HubError` above 67 MB."""
        if length > 0 and (offset < 0 or length > _LARGEST_ANSWER_BYTES):
            raise HubError(f"At most {units.size(_LARGEST_ANSWER_BYTES)} of a file can be read. Download it instead.")
        data, is_at_end = b"", False
        while len(data) < length and not is_at_end:  # a server may send less than requested
            part, is_at_end = self._part(asked, range(offset + len(data), offset + length))
            data += part
        return data

    def _part(self, asked: Asked, wanted: range) -> tuple[bytes, bool]:
        """The first of these bytes of a file, and whether they are its last.

        A server that sends another range is asked for the whole file, of which no more is read than necessary.
        """
        for ranged in ({"range": f"bytes={wanted.start}-{wanted.stop - 1}"}, {}):
            # A compressed answer has no ranges: CloudFront ignores `Range` for it.
            headers = {"accept-encoding": "identity", **ranged}
            response, data = self._ask(asked.file_url, asked, (), headers, wanted, is_brief=True)
            if response.status_code == _BEYOND_THE_END:
                return b"", True
            if response.status_code != 206:
                return data[wanted.start :], True
            found = None if is_encoded(response.headers) else content_range(response.headers)
            if data and found is not None and found.start == wanted.start and found.end is not None:
                data = data[: found.end - found.start]
                return data, wanted.start + len(data) == found.size_bytes
        raise HubUnavailableError("The Hub's storage sent another part of the file than requested.")

    # One request -----------------------------------------------------------------------------------------------------

    def _page(
        self, kind: type[_Kind], url: str, asked: Asked, params: Pairs, *, is_brief: bool
    ) -> tuple[_Kind, str | None]:
        """An answer's JSON, which must be of this kind, and the address of the next page."""
        response, text = self._ask(url, asked, params, {}, None, is_brief=is_brief)
        with suppress(ValueError, RecursionError):  # a web page; text that is not UTF-8; JSON that is nested too deeply
            if isinstance(found := json.loads(text), kind):
                return found, response.links.get("next", {}).get("url")
        if asked.is_search:
            raise no_search(asked, "or check HF_ENDPOINT")
        error = HubUnavailableError(
            f"{self.endpoint} did not answer like a Hub. Open it in a browser: the network may ask for a login, or "
            "HF_ENDPOINT may be wrong."
        )
        raise _of_no_route(error)

    def _ask(
        self, url: str, asked: Asked, params: Pairs, headers: Json, part: range | None, *, is_brief: bool
    ) -> tuple["httpx.Response", bytes]:
        """The answer and its body. Asks until there is one, a permanent error, or no attempt left."""
        policy, attempt = self._retry_policy or (BRIEF if is_brief else RetryPolicy()), 0
        deadline_s = time.monotonic() + policy.budget_s
        while True:
            self._check_open()
            try:
                with mapped(asked):
                    return self._send(url, asked, params, headers, part, policy.timeout_s)
            except TRANSIENT as error:
                wait_s, attempt = policy.wait_s(attempt, error), attempt + 1
                is_over = attempt >= policy.tries or time.monotonic() + wait_s > deadline_s
                if is_over or is_no_route(error):
                    raise
            self._closing.wait(wait_s)

    def _check_open(self) -> None:
        """Refuses after `close`, and in offline mode, with `ManagerClosedError` and `OfflineError`."""
        _check_environment()
        from huggingface_hub import constants

        if self._closing.is_set():
            raise ManagerClosedError("The manager was closed, so the request was not sent.")
        if self._is_offline or constants.HF_HUB_OFFLINE:
            raise OfflineError(OFFLINE.format(endpoint=self.endpoint))

    def _send(
        self, url: str, asked: Asked, params: Pairs, headers: Json, part: range | None, timeout_s: float | None
    ) -> tuple["httpx.Response", bytes]:
        """One request and its redirects. Errors of httpx are not mapped."""
        from huggingface_hub import constants

        from gglib_nb.network.client import httpx, shared_client

        client, timeout_s = shared_client(), timeout_s or constants.HF_HUB_ETAG_TIMEOUT
        for _ in range(MOST_REDIRECTS):
            sent, hint = self._headers(url, headers)
            request = client.build_request("GET", url, params=list(params) or None, headers=sent, timeout=timeout_s)
            try:
                response = client.send(request, stream=True, follow_redirects=False)
            except RuntimeError as error:  # another thread's failure closed the shared session
                raise httpx.ReadError("the shared session was closed") from error
            with closing(response):
                if not response.has_redirect_location:
                    self._check_status(response, asked, part, hint)
                    return response, self._read(response, part)
                url, params = redirected(url, response.headers["location"], asked), ()
        raise HubUnavailableError(f"{self.endpoint} redirects too many times. Try again later.")

    def _headers(self, url: str, headers: Json) -> tuple["httpx.Headers", str]:
        """Headers, with the token for the hub's own origin only, and a hint if the stored one cannot be read; or "".

        The token is hidden by their `repr`, and is in no frame of a request.
        """
        from gglib_nb.network.client import httpx

        sent = httpx.Headers({"user-agent": self.user_agent, **headers})
        try:
            if self._is_own(url) and (token := self.token):
                sent["authorization"] = f"Bearer {token}"
        except InvalidTokenError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            return sent, f" {error}"  # a public repository needs no login
        return sent, ""

    def _is_own(self, url: str) -> bool:
        """Whether the address is of the hub's own origin, the only one that gets the token."""
        return origin_of(url) == origin_of(self.endpoint)

    def _check_status(self, response: "httpx.Response", asked: Asked, part: range | None, hint: str) -> None:
        """Raises the error that a refusal means; reads only as much of its body as a message needs."""
        status = response.status_code
        if response.is_success or (part is not None and status == _BEYOND_THE_END):
            return
        if self._is_own(str(response.url)):
            error = hub_refusal(refusal(response, self._read(response, range(_LARGEST_REFUSAL_BYTES))), asked)
            if isinstance(error, GatedRepoError | InvalidTokenError | RepoNotFoundError):
                error.args = (f"{error}{hint}",)
        else:  # from a storage; not httpx's error, whose text has the signed URL. A retry gets another one.
            error = HubUnavailableError(f"The Hub's storage refused the Hub's own link ({status}).")
        if part is None and status in _NO_ROUTE and "x-error-code" not in response.headers:
            raise _of_no_route(error)
        raise error

    def _read(self, response: "httpx.Response", part: range | None) -> bytes:
        """A body: as far as a part of it needs, or, for None, all of it, if that is no more than any listing has.

        A read that gets a byte now and then never times out, so the whole has a limit too.
        """
        most_bytes, longest_s = _LARGEST_ANSWER_BYTES, _LONGEST_ANSWER_S
        if part is not None:
            most_bytes = len(part) if response.status_code in (206, _BEYOND_THE_END) else part.stop
            longest_s += most_bytes / _SLOWEST_BYTES_PER_SECOND
        if most_bytes > _LARGEST_ANSWER_BYTES:  # the bytes before the part would have to be read and stored
            raise HubUnavailableError("The Hub's storage sends only whole files, not parts of them.")
        data, deadline_s = bytearray(), time.monotonic() + longest_s
        # A part of a compressed body cannot be decompressed.
        for chunk in response.iter_raw() if response.status_code == 206 else response.iter_bytes():
            self._check_open()
            data += chunk
            if len(data) >= most_bytes:
                if part is not None:
                    break
                raise HubError(f"{self.endpoint} sent more than {most_bytes >> 20} MiB, which is too large.")
            if time.monotonic() > deadline_s:
                raise HubUnavailableError(f"{self.endpoint} takes more than {longest_s:.0f} s to send an answer.")
        return bytes(data[:most_bytes])


def _check_environment() -> None:
    """Raises `InvalidConfigError` if huggingface_hub, which reads its timeouts at import, cannot read them."""
    try:
        import huggingface_hub.constants  # noqa: F401
    except ValueError as error:
        raise InvalidConfigError(
            "HF_HUB_DOWNLOAD_TIMEOUT and HF_HUB_ETAG_TIMEOUT must be whole numbers of seconds, such as 30. Correct "
            "or unset them, then try again."
        ) from error


def is_no_route(error: GglibError) -> bool:
    """Whether an error may only mean that the hub has no such route, which says nothing about the repository."""
    return hasattr(error, "_is_no_route")


def _of_no_route(error: GglibError) -> GglibError:
    vars(error)["_is_no_route"] = True  # private, so that no user and no report of the error sees it
    return error
