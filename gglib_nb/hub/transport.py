"""Sends requests to a hub: one GET after another, with timeouts, retries, and the token for its own origin only.

It does not use `HfApi`: its listings have no timeout, sleep for as long as a 429 asks, and cannot be interrupted; `model_info` never
retries. The token, the user agent and the settings come from huggingface_hub, which is imported at the first request, because that
takes half a second. Knows no repositories.
"""

import copy
import json
import platform
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

from gglib_nb.domain.http_rules import MOST_REDIRECTS, backoff_s, content_range, origin_of
from gglib_nb.domain.hub_answers import Asked, hub_refusal, redirected
from gglib_nb.domain.text import INVALID_CHARACTER, can_be_sent
from gglib_nb.domain.values import Value
from gglib_nb.errors import (
    GatedRepoError,
    GglibError,
    HubError,
    HubUnavailableError,
    InvalidTokenError,
    ManagerClosedError,
    NetworkError,
    OfflineError,
    RateLimitedError,
    RepoNotFoundError,
    RevisionNotFoundError,
)
from gglib_nb.hub.errors_map import OFFLINE, UNREADABLE_JSON, hub_error, redact, refusal

if TYPE_CHECKING:
    from gglib_nb.network.client import httpx

_Result = TypeVar("_Result")
Params = Sequence[tuple[str, str]]

_MOST_PAGES: Final = 1000  # of 1000 entries: more than any repository has; ends an endless listing
_LONGEST_WAIT_S: Final = 8.0
_LARGEST_ANSWER_BYTES: Final = 64 * 1024 * 1024  # some mirrors send a listing in one page
_LARGEST_REFUSAL_BYTES: Final = 64 * 1024
_MOST_SKIPPED_BYTES: Final = 64 * 1024 * 1024
_LONGEST_ANSWER_S: Final = 60.0
_SLOWEST_BYTES_PER_SECOND: Final = 16 * 1024
# The statuses of a mirror or proxy without a route or parameter; with `X-Error-Code` they are the hub's answer about the repository.
_NO_ROUTE: Final = frozenset({*range(400, 500), 501}) - {401, 403, 407, 408, 425, 429}
_TRANSIENT: Final = (NetworkError, HubUnavailableError, RateLimitedError)
_NOT_PROVIDED: Final = (*_TRANSIENT, RepoNotFoundError, RevisionNotFoundError)


class NoRouteError(Exception):
    """The hub has no such route, which says nothing about the repository."""


class Patience(Value, frozen=True):
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


_BRIEF: Final = Patience(tries=2, timeout_s=5.0, budget_s=10.0)


class _Tokens:
    """The given token and the last one sent, kept out of the client's own attributes and `repr`."""

    def __init__(self, given: str | Literal[False] | None) -> None:
        self.given = given if given is False else (given or "").strip() or None
        self.sent: str | None = None


class Transport:
    """Sends requests to one hub. Safe from any thread.

    Args:
        endpoint: The hub's base URL; None is huggingface_hub's (`HF_ENDPOINT`).
        token: None leaves it to huggingface_hub at each call (`HF_TOKEN`, `hf auth login`). It goes to the hub's
            own origin only, and into no `repr`, message or log. False: anonymous.
        is_offline: Refuse every call, as `HF_HUB_OFFLINE` does.
        patience: Timeouts and retries of every call; None suits each call.
        mirrors: Base URLs of hubs that are asked, without a token, for what this one cannot provide.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | Literal[False] | None = None,
        *,
        is_offline: bool = False,
        patience: Patience | None = None,
        mirrors: Iterable[str] = (),
    ) -> None:
        self._mirrors: list[Any] = [  # of this class
            type(self)(url, False, is_offline=is_offline, patience=patience or _BRIEF) for url in mirrors
        ]
        self._endpoint = endpoint and endpoint.rstrip("/")
        self._tokens = _Tokens(token)
        self._is_offline = is_offline
        self._given_patience = patience
        self._is_brief = bool(self._mirrors)  # with mirrors, an unreachable hub is not waited for long
        self._unread_login = ""
        self._closing = threading.Event()

    @property
    def looking(self) -> Self:
        """A copy for what is not worth a long wait, such as a header; closing one closes both."""
        other = copy.copy(self)
        other._is_brief = True  # noqa: SLF001  # our own class
        return other

    @property
    def endpoint(self) -> str:
        """The hub's base URL, without a trailing `/`."""
        from huggingface_hub import constants

        return self._endpoint or constants.ENDPOINT

    @property
    def token(self) -> str | None:
        """The token as it would be sent now; None: anonymous. May use the network, to renew a login.

        Raises:
            InvalidTokenError: No header can carry it, or the stored login cannot be used.
        """
        from huggingface_hub import constants, get_token

        found = self._tokens.given or None
        try:
            if self._tokens.given is None and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
                found = get_token()
        except Exception as error:
            what, todo = f"The stored login cannot be read ({type(error).__name__})", "log in again"
            if isinstance(error, OSError) and error.filename:
                what = f"The stored login in {error.filename} cannot be read ({error.strerror})"
                raise InvalidTokenError(f"{what}; make the file readable, or {todo}.") from error
            raise hub_error(error, Asked(self.endpoint)) or InvalidTokenError(f"{what}; {todo}.") from error
        if found and not can_be_sent(found):
            raise InvalidTokenError(INVALID_CHARACTER)
        return found or None

    @cached_property
    def user_agent(self) -> str:
        """Our `User-Agent`, with the versions of huggingface_hub and Python.

        huggingface_hub makes the same text, but first requests a list of names from the Hub, past our proxies and time limits.
        """
        from importlib.metadata import PackageNotFoundError, version  # 25 ms, paid with the first request

        from huggingface_hub import __version__, constants

        own = "unknown"
        with suppress(PackageNotFoundError):  # it is on the path, but not installed
            own = version("gglib_nb")
        names = [f"gglib_nb/{own}", f"hf_hub/{__version__}", f"python/{platform.python_version()}"]
        origin = constants.HF_HUB_USER_AGENT_ORIGIN
        return "; ".join([*names, f"origin/{origin}"] if origin else names)

    def close(self) -> None:
        """Ends the waits of requests in progress, which raise `ManagerClosedError`, as do later ones."""
        for one in (self, *self._mirrors):
            one._closing.set()  # noqa: SLF001  # our own class

    def anywhere(self, ask: Callable[[Self], _Result]) -> _Result:
        """The answer of this hub, or of the first mirror that has one; never of a mirror if this hub refuses the user."""
        try:
            return ask(self)
        except _NOT_PROVIDED:
            for mirror in self._mirrors:
                with suppress(GglibError):
                    return ask(mirror)
            raise

    def json(self, route: str, asked: Asked, params: Params = (), *, is_optional: bool = False) -> dict[str, Any]:
        """The JSON object in the answer of a route below the endpoint.

        Raises:
            NoRouteError: With `is_optional`: the hub lacks the route, or does not support these parameters.
        """
        return self._page(dict, self.endpoint + route, asked, params, is_optional)[0]

    def pages(self, route: str, asked: Asked, params: Params, *, is_optional: bool = False) -> Iterator[dict[str, Any]]:
        """The rows of a listing; further pages are requested when their rows are needed. Raises `NoRouteError` as `json`."""
        url = self.endpoint + route
        for _ in range(_MOST_PAGES):
            page, following = self._page(list, url, asked, params, is_optional)
            yield from page
            if following is None:
                return
            url, params, is_optional = redirected(url, following, asked), (), False
        raise HubUnavailableError(f"{self.endpoint} sent a list that does not end. Try again later.")

    def range(self, asked: Asked, offset: int, length: int) -> bytes:
        """Bytes of a file from `offset`: fewer than `length` at its end, none beyond it. Holds no more than requested."""
        data, is_at_end = bytearray(), False
        while len(data) < length and not is_at_end:
            ask = partial(self._part, asked, offset + len(data), length - len(data))
            part, is_at_end = self._persist(ask, asked)
            data += part
        return bytes(data)

    # One request -----------------------------------------------------------------------------------------------------

    @property
    def _patience(self) -> Patience:
        return self._given_patience or (_BRIEF if self._is_brief else Patience())

    def _persist(self, ask: Callable[[], _Result], asked: Asked) -> _Result:
        """Asks until there is an answer, a permanent error, or no patience left. Errors of httpx and huggingface_hub become ours."""
        patience, attempt = self._patience, 0
        deadline_s = time.monotonic() + patience.budget_s
        while True:
            self._check_open()
            try:
                return ask()
            except GglibError as error:
                ours = error
            except Exception as error:
                redact(error, self._tokens.sent)
                if (found := hub_error(error, asked)) is None:
                    raise
                ours, ours.__cause__ = found, error
            wait_s, attempt = patience.wait_s(attempt, ours), attempt + 1
            is_over = attempt >= patience.tries or time.monotonic() + wait_s > deadline_s
            if is_over or not isinstance(ours, _TRANSIENT):
                raise ours
            self._closing.wait(wait_s)

    def _check_open(self) -> None:
        """Refuses after `close`, and in offline mode, with `ManagerClosedError` and `OfflineError`."""
        from huggingface_hub import constants

        if self._closing.is_set():
            raise ManagerClosedError("The manager was closed, so the request was not sent.")
        if self._is_offline or constants.HF_HUB_OFFLINE:
            raise OfflineError(OFFLINE.format(endpoint=self.endpoint))

    @contextmanager
    def _follow(
        self, url: str, asked: Asked, params: Params = (), headers: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator["httpx.Response"]:
        """One request and its redirects; the last body is not read yet. Errors of httpx are not mapped."""
        from huggingface_hub import constants

        from gglib_nb.network.client import httpx, shared_client

        client, timeout_s = shared_client(), self._patience.timeout_s or constants.HF_HUB_ETAG_TIMEOUT
        for _ in range(MOST_REDIRECTS):
            sent = self._headers(url, headers)
            request = client.build_request("GET", url, params=list(params) or None, headers=sent, timeout=timeout_s)
            try:
                response = client.send(request, stream=True, follow_redirects=False)
            except RuntimeError as error:  # another thread's failure closed the shared session
                raise httpx.ReadError("the shared session was closed") from error
            with closing(response):
                if not response.has_redirect_location:
                    yield response
                    return
                url, params = redirected(url, response.headers["location"], asked), ()
        raise HubUnavailableError(f"{self.endpoint} redirects too many times. Try again later.")

    def _headers(self, url: str, headers: Mapping[str, str]) -> "httpx.Headers":
        """Headers, with the token for the hub's own origin only. Their `repr` hides it, and no frame of a request holds it."""
        from gglib_nb.network.client import httpx

        sent = httpx.Headers({"user-agent": self.user_agent, **headers})
        if self._is_own(url) and (token := self._usable_token()):
            self._tokens.sent = token
            sent["authorization"] = f"Bearer {token}"
        return sent

    def _usable_token(self) -> str | None:
        """The token; None if the file of the stored login cannot be read, because a public repository needs none."""
        self._unread_login = ""
        try:
            return self.token
        except InvalidTokenError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            self._unread_login = f" {error}"
            return None

    def _is_own(self, url: str) -> bool:
        """Whether the address is of the hub's own origin, the only one that gets the token."""
        with suppress(ValueError):  # an impossible endpoint, which httpx will refuse
            return origin_of(url) == origin_of(self.endpoint)
        return False

    def _check_status(self, response: "httpx.Response", asked: Asked) -> None:
        """Raises the error that a refusal means; reads only as much of its body as a message needs."""
        if response.is_success:
            return
        if not self._is_own(str(response.url)):
            # From a storage; not chained to httpx's error, whose text has the signed URL. A retry gets another one.
            raise HubUnavailableError(f"The Hub's storage refused the Hub's own link ({response.status_code}).")
        said = refusal(response, self._read(response, _LARGEST_REFUSAL_BYTES, _LONGEST_ANSWER_S), self._tokens.sent)
        error = hub_refusal(said, asked)
        if isinstance(error, GatedRepoError | InvalidTokenError | RepoNotFoundError):
            error.args = (f"{error}{self._unread_login}",)
        raise error

    def _page(
        self, kind: type[_Result], url: str, asked: Asked, params: Params, is_optional: bool
    ) -> tuple[_Result, str | None]:
        """An answer's JSON, which must be of this kind, and the address of the next page."""

        def ask() -> tuple[object, str | None]:
            with self._follow(url, asked, params) as response:
                if is_optional and response.status_code in _NO_ROUTE and "x-error-code" not in response.headers:
                    raise NoRouteError(f"HTTP {response.status_code}")
                self._check_status(response, asked)
                text = self._read(response, _LARGEST_ANSWER_BYTES + 1, _LONGEST_ANSWER_S)
                if len(text) > _LARGEST_ANSWER_BYTES:
                    most = f"more than {_LARGEST_ANSWER_BYTES >> 20} MiB"
                    raise HubError(f"{self.endpoint} sends an answer of {most}, which is too large to be read.")
                with suppress(*UNREADABLE_JSON if is_optional else ()):  # a web page in place of a missing route
                    return json.loads(text), response.links.get("next", {}).get("url")
                return None, None

        found, following = self._persist(ask, asked)
        if not isinstance(found, kind):
            if is_optional:
                raise NoRouteError("not JSON")
            raise HubUnavailableError(f"{self.endpoint} did not answer like a Hub. Check HF_ENDPOINT.")
        return found, following

    def _part(self, asked: Asked, offset: int, length: int) -> tuple[bytes, bool]:
        """Some of these bytes, at least one unless the file ends before, and whether they are its last.

        A server may send less than requested. One that sends another range is asked for the whole file, of which no more is read
        than necessary.
        """
        for headers in ({"range": f"bytes={offset}-{offset + length - 1}"}, {}):
            # A compressed answer has no ranges: CloudFront ignores `Range` for it.
            with self._follow(asked.file_url, asked, headers={"accept-encoding": "identity", **headers}) as response:
                if response.status_code == 416:  # beyond the end
                    return b"", True
                self._check_status(response, asked)
                if response.status_code != 206:
                    if offset + length > _MOST_SKIPPED_BYTES:  # the bytes before it would have to be read and stored
                        raise HubUnavailableError("The Hub's storage sends only whole files, not parts of them.")
                    data = self._read(response, offset + length)
                    return data[offset:], len(data) < offset + length
                found = content_range(response.headers)
                if found is not None and found.start == offset and found.end is not None:
                    wanted = min(length, found.end - offset)
                    data = self._read(response, wanted)
                    if len(data) < wanted:
                        raise HubUnavailableError(f"The Hub's storage sent {len(data)} bytes instead of {wanted}.")
                    return data, offset + wanted == found.size_bytes
        raise HubUnavailableError("The Hub's storage sent another part of the file than requested.")

    def _read(self, response: "httpx.Response", most_bytes: int, longest_s: float | None = None) -> bytes:
        """The first bytes of a body. A read that gets a byte now and then never times out, so the whole has a limit too."""
        longest_s = longest_s or _LONGEST_ANSWER_S + most_bytes / _SLOWEST_BYTES_PER_SECOND
        data, deadline_s = bytearray(), time.monotonic() + longest_s
        for chunk in response.iter_bytes():
            self._check_open()
            data += chunk
            if len(data) >= most_bytes:
                break
            if time.monotonic() > deadline_s:
                raise HubUnavailableError(f"{self.endpoint} takes more than {longest_s:.0f} s to send an answer.")
        return bytes(data[:most_bytes])
