"""The hub client with a faulty hub: which requests it retries, how long it waits, and which error it raises."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from huggingface_hub import set_client_factory
from huggingface_hub.utils import close_session, get_session
from huggingface_hub.utils._http import default_client_factory

from gglib_nb.demo import GRANTED_TOKEN
from gglib_nb.demo.messages import Request, Response, text_response
from gglib_nb.errors import (
    HubError,
    HubUnavailableError,
    InvalidConfigError,
    ManagerClosedError,
    NetworkError,
    RateLimitedError,
    RepoNotFoundError,
    RevisionNotFoundError,
)
from gglib_nb.hub.client import HubClient
from gglib_nb.hub.transport import RetryPolicy
from gglib_nb.network.client import httpx
from tests.support.certificates import Company
from tests.support.faulty_hub import (
    Cut,
    ExpiredUrl,
    FaultyHub,
    HangUp,
    IgnoreRange,
    NoContentLength,
    RangeNotSatisfiable,
    RateLimited,
    Redirect,
    ShortBody,
    Stall,
    Status,
    WrongContentRange,
)
from tests.support.hub import make_repository

QUICK = RetryPolicy(tries=3, first_wait_s=0.01, timeout_s=60)
# Only for a stall: an answer that is slow on a busy machine is requested again.
HASTY = RetryPolicy(tries=8, first_wait_s=0.01, timeout_s=0.3)


@dataclass(frozen=True)
class Answer:
    """Another text instead of the response."""

    text: str
    content_type: str = "text/html"

    def apply(self, request: Request, response: Response) -> Response:
        return text_response(200, self.text, self.content_type)


@dataclass(frozen=True)
class NextPage:
    """A `Link` to another address."""

    url: str

    def apply(self, request: Request, response: Response) -> Response:
        return response.having(Link=f'<{self.url}>; rel="next"')


@dataclass(frozen=True)
class SamePage:
    """A `Link` to the same page at an address that grows, as of a server that ignores the cursor it adds."""

    def apply(self, request: Request, response: Response) -> Response:
        again = "x" * (len(request.query.get("again", [""])[0]) + 1)
        return response.having(Link=f'<{request.path}?again={again}>; rel="next"')


@dataclass
class TwoPages:
    """Two pages in turn, at an address that grows, as of a server behind a cache."""

    count: int = 0

    def apply(self, request: Request, response: Response) -> Response:
        self.count += 1
        answer = text_response(200, f'[{{"id": "demo/{self.count % 2}"}}]', "application/json")
        return answer.having(Link=f'<{request.path}?page={self.count}>; rel="next"')


@pytest.fixture
def retry_policy() -> RetryPolicy:
    return QUICK


@pytest.fixture
def client(hub: FaultyHub, retry_policy: RetryPolicy) -> HubClient:
    return HubClient(hub.url, retry_policy=retry_policy)


@pytest.fixture
def read(hub: FaultyHub, client: HubClient) -> Callable[[], bytes]:
    """Reads bytes 10 to 109 of a file."""
    commit = hub.repositories["demo/small-GGUF"].commit()
    assert commit is not None
    return lambda: client.read_range("demo/small-GGUF", commit.sha, "small-Q4_K_M.gguf", 10, 100)


@pytest.fixture
def expected(hub: FaultyHub) -> bytes:
    """The bytes that `read` must return."""
    commit = hub.repositories["demo/small-GGUF"].commit()
    assert commit is not None
    return b"".join(commit.files["small-Q4_K_M.gguf"].content.slices())[10:110]


PASSING = [
    *((fault, QUICK) for fault in [*map(Status, (408, 425, 429, 500, 502, 503, 504)), HangUp(), Cut(after_bytes=5)]),
    (Stall(after_bytes=5), HASTY),
]


def name_of(parameter: object) -> str | None:
    """The fault's name; its policy needs none."""
    return (
        None if isinstance(parameter, RetryPolicy) else f"{type(parameter).__name__}{getattr(parameter, 'status', '')}"
    )


@pytest.mark.parametrize(("fault", "retry_policy"), PASSING, ids=name_of)
@pytest.mark.parametrize("path", ["/api/models/demo/small-GGUF/revision/main", "*/tree/*"])
def test_a_listing_survives_temporary_faults(hub: FaultyHub, client: HubClient, fault: Status, path: str) -> None:
    hub.faults.add(fault, path=path, times=2)

    assert len(client.list_files("demo/small-GGUF").files) == 3


@pytest.mark.parametrize(("fault", "retry_policy"), PASSING, ids=name_of)
@pytest.mark.parametrize("origin", ["hub", "cdn"])
def test_a_range_read_survives_temporary_faults(
    hub: FaultyHub, read: Callable[[], bytes], expected: bytes, fault: Status, origin: str
) -> None:
    hub.faults.add(fault, origin=origin, times=2)  # type: ignore[arg-type]

    assert read() == expected


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        (Status(503), HubUnavailableError, r"failed \(503\) at demo/small-GGUF; try again later"),
        (HangUp(), NetworkError, "was lost"),
        (Answer("<html>Please log in to this network</html>"), HubUnavailableError, "the network may ask for a login"),
        (Answer("[]", "application/json"), HubUnavailableError, "HF_ENDPOINT"),
        (Answer('{"id": "a/b"}', "application/json"), HubUnavailableError, r"cannot be read \(KeyError: 'sha'\)"),
        (Answer('{"id": "../x", "sha": "1"}', "application/json"), HubUnavailableError, "InvalidRepoIdError"),
        (Status(400, error_message="That is not how"), HubError, r"refused demo/small-GGUF \(400\): That is not how"),
        (Status(404), RepoNotFoundError, "no repository demo/small-GGUF"),
        (Status(401), RepoNotFoundError, "no repository demo/small-GGUF"),
        (Redirect(), HubUnavailableError, "redirects"),
    ],
)
def test_permanent_faults_are_reported(
    hub: FaultyHub, client: HubClient, fault: Status, error: type[Exception], text: str
) -> None:
    hub.faults.add(fault, path="/api/models/demo/small-GGUF*", times=None)

    with pytest.raises(error, match=text) as caught:
        client.list_files("demo/small-GGUF")
    assert type(caught.value) is error


@pytest.mark.parametrize("retry_policy", [replace(HASTY, tries=3)])
def test_a_hub_that_always_stalls_is_reported(hub: FaultyHub, client: HubClient) -> None:
    hub.faults.add(Stall(after_bytes=5), path="/api/models/demo/small-GGUF*", times=None)

    with pytest.raises(NetworkError, match="did not answer in time") as caught:
        client.list_files("demo/small-GGUF")
    assert type(caught.value) is NetworkError


def test_a_failing_request_is_not_retried_forever(hub: FaultyHub, client: HubClient) -> None:
    hub.faults.add(Status(503), times=None)

    with pytest.raises(HubUnavailableError):
        client.list_files("demo/small-GGUF")
    assert len(hub.requests) == 3


def test_a_hub_without_search_is_reported_with_an_alternative(hub: FaultyHub, client: HubClient) -> None:
    hub.faults.add(Status(401), times=None)

    with pytest.raises(HubError, match=r"does not support search: name a repository as owner/name"):
        client.search("llama")


def test_an_early_listing_is_requested_again(hub: FaultyHub, client: HubClient) -> None:
    hub.faults.add(Status(425), times=1)

    assert client.list_files("demo/small-GGUF").files
    assert [one.status for one in hub.requests] == [425, 200, 200]


def test_names_of_revisions_are_not_waited_for_long(hub: FaultyHub) -> None:
    hub.faults.add(Status(503), path="*/refs", times=None)

    with pytest.raises(RevisionNotFoundError):
        HubClient(hub.url).list_files("demo/small-GGUF", "v1")
    assert [one.status for one in hub.requests] == [404, 503, 503]


def test_a_refusal_is_not_retried(hub: FaultyHub, client: HubClient) -> None:
    with pytest.raises(RepoNotFoundError):
        client.list_files("demo/nothing")
    assert len(hub.requests) == 1


def test_a_hub_that_is_down_for_five_seconds_is_waited_for_whatever_the_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = RetryPolicy()
    monkeypatch.setattr("random.random", lambda: 0.0)

    waits = [policy.wait_s(attempt, HubUnavailableError("down")) for attempt in range(policy.tries - 1)]

    assert 5 < sum(waits) < policy.budget_s


@pytest.mark.parametrize("stated_by", ["ratelimit", "ratelimit-not-exhausted", "retry-after"])
def test_a_long_rate_limit_raises_an_error_with_the_seconds(hub: FaultyHub, client: HubClient, stated_by: str) -> None:
    hub.faults.add(RateLimited(290, stated_by=stated_by))  # type: ignore[arg-type]

    # The `RateLimit` header counts in whole seconds, of which one may have begun.
    wait_s = 291 if stated_by == "ratelimit" else 290
    with pytest.raises(RateLimitedError, match=rf"in 4 min {wait_s - 240} s\.") as caught:
        client.list_files("demo/small-GGUF")
    assert caught.value.retry_after_s == wait_s
    assert len(hub.requests) == 1


def test_a_rate_limit_until_a_date_is_parsed(hub: FaultyHub, client: HubClient) -> None:
    hub.faults.add(RateLimited(290, stated_by="http-date"))

    with pytest.raises(RateLimitedError) as caught:
        client.list_files("demo/small-GGUF")
    assert caught.value.retry_after_s == pytest.approx(290, abs=3)


def test_a_short_rate_limit_is_waited_out(hub: FaultyHub, client: HubClient) -> None:
    hub.faults.add(RateLimited(0, stated_by="retry-after"))
    began = time.monotonic()

    assert len(client.list_files("demo/small-GGUF").files) == 3
    assert time.monotonic() - began >= 1  # the hub's value, and the second by which it rounds down


def test_an_unreachable_hub_is_reported_by_name() -> None:
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:9 cannot be reached; check the connection, HF_ENDPOINT"):
        HubClient("http://127.0.0.1:9", retry_policy=QUICK).list_files("demo/small-GGUF")


def test_a_search_on_a_server_that_is_not_a_hub_is_reported(make_hub: Callable[..., FaultyHub]) -> None:
    hub = make_hub()

    with pytest.raises(InvalidConfigError, match="HF_ENDPOINT"):
        HubClient(f"{hub.url}/wrong", retry_policy=QUICK).search("llama")


def test_closing_ends_a_wait_at_once(hub: FaultyHub) -> None:
    hub.faults.add(RateLimited(20), times=None)
    client = HubClient(hub.url)

    with ThreadPoolExecutor(1) as pool:
        listing = pool.submit(client.list_files, "demo/small-GGUF")
        hub.wait_for(lambda requests: any(request.ended_s for request in requests))
        client.close()
        with pytest.raises(ManagerClosedError):
            listing.result(timeout=15)
    with pytest.raises(ManagerClosedError):
        client.search("llama")


@pytest.mark.parametrize("fault", [IgnoreRange(), ExpiredUrl(), ShortBody(5), WrongContentRange(start_shift=7)])
def test_a_storage_that_sends_wrong_content_is_retried(
    hub: FaultyHub, read: Callable[[], bytes], expected: bytes, fault: Status
) -> None:
    hub.faults.add(fault, origin="cdn")

    assert read() == expected


def test_an_expired_link_is_resolved_again(hub: FaultyHub, read: Callable[[], bytes]) -> None:
    hub.faults.add(ExpiredUrl(), origin="cdn")

    read()

    assert [request.origin for request in hub.requests] == ["hub", "cdn", "hub", "cdn"]


def test_a_storage_that_always_refuses_does_not_show_its_signed_link(hub: FaultyHub, read: Callable[[], bytes]) -> None:
    hub.faults.add(ExpiredUrl(), origin="cdn", times=None)

    with pytest.raises(HubUnavailableError, match=r"refused the Hub's own link \(403\)") as caught:
        read()
    assert caught.value.__cause__ is None


def test_a_range_without_a_length_is_accepted(hub: FaultyHub, read: Callable[[], bytes], expected: bytes) -> None:
    hub.faults.add(NoContentLength(), origin="cdn")

    assert read() == expected


def test_a_range_that_cannot_be_satisfied_is_empty(hub: FaultyHub, read: Callable[[], bytes]) -> None:
    hub.faults.add(RangeNotSatisfiable(has_content_range=False), origin="cdn")

    assert read() == b""


def test_circular_redirects_are_given_up(hub: FaultyHub, read: Callable[[], bytes]) -> None:
    hub.faults.add(Redirect(), path="*/resolve/*", times=None)

    with pytest.raises(HubUnavailableError):
        read()


def test_only_the_needed_part_of_a_whole_file_is_read(make_hub: Callable[..., FaultyHub]) -> None:
    hub = make_hub([make_repository("demo/large", {"large.gguf": 50_000_000})])
    commit = hub.repositories["demo/large"].commit()
    assert commit is not None
    hub.faults.add(IgnoreRange(), origin="cdn")

    assert len(HubClient(hub.url).read_range("demo/large", commit.sha, "large.gguf", 0, 1000)) == 1000
    hub.wait_for(lambda requests: requests[-1].ended_s is not None)
    assert hub.bytes_sent("large.gguf") < 20_000_000


def test_a_next_page_on_another_origin_gets_no_token(
    make_hub: Callable[..., FaultyHub],
) -> None:
    other = make_hub([make_repository("demo/r", {"a.gguf": 600})])
    hub = make_hub([make_repository("demo/r", {"a.gguf": 600})])
    hub.faults.add(NextPage(f"{other.url}/api/models?limit=1"), path="*/models")

    HubClient(hub.url, GRANTED_TOKEN).search("r")

    assert [("authorization" in request.headers) for request in other.requests] == [False]


def test_a_next_page_that_names_itself_ends_the_listing(hub: FaultyHub, client: HubClient) -> None:
    hub.faults.add(NextPage(f"{hub.url}/api/models?search=small&limit=1"), path="/api/models", times=9)

    with pytest.raises(HubUnavailableError, match="does not end"):
        client.search("small", limit=1000)

    assert len(hub.requests) == 2


def test_a_page_that_is_repeated_at_other_addresses_ends_the_listing(hub: FaultyHub, client: HubClient) -> None:
    hub.faults.add(SamePage(), path="/api/models", times=9)

    with pytest.raises(HubUnavailableError, match="does not end"):
        client.search("", limit=1000)

    assert len(hub.requests) == 3  # the link drops the first request's parameters, which gave other rows


def test_two_pages_in_turn_end_the_listing(hub: FaultyHub, client: HubClient) -> None:
    hub.faults.add(TwoPages(), path="/api/models", times=None)

    with pytest.raises(HubUnavailableError, match="does not end"):
        client.search("", limit=1000)

    assert len(hub.requests) == 3


def test_a_mirrors_link_to_the_hub_is_followed_on_the_mirror(make_hub: Callable[..., FaultyHub]) -> None:
    hub = make_hub([make_repository(f"demo/r-{n}", {"a.gguf": 600}) for n in range(3)])
    hub.faults.add(NextPage("https://huggingface.co/api/models?limit=1&search=r-2"), path="/api/models")

    HubClient(hub.url).search("r-1")

    assert [request.query.get("search") for request in hub.requests] == [["r-1"], ["r-2"]]


def test_a_mirror_that_names_itself_without_tls_is_asked_with_tls_and_the_token(
    make_hub: Callable[..., FaultyHub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = Company(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(company.bundle))
    hub = make_hub([make_repository(f"demo/r-{n}", {"a.gguf": 600}) for n in range(3)], tls=company.server())
    link = f"{hub.url.replace('https', 'http')}/api/models?limit=1&search=r-2"
    hub.faults.add(NextPage(link), path="/api/models")

    HubClient(hub.url, GRANTED_TOKEN).search("r-1")

    assert [(one.query.get("search"), "authorization" in one.headers) for one in hub.requests] == [
        (["r-1"], True),
        (["r-2"], True),
    ]


def test_a_session_closed_by_another_thread_is_replaced(hub: FaultyHub, client: HubClient) -> None:
    set_client_factory(
        lambda: httpx.Client(follow_redirects=True)
    )  # set by a user; otherwise the session is not shared
    try:
        get_session().close()
        with pytest.raises(NetworkError, match="was lost"):
            client.list_files("demo/small-GGUF")
        close_session()

        assert len(client.list_files("demo/small-GGUF").files) == 3
    finally:
        set_client_factory(default_client_factory)
