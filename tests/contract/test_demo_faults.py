"""Each fault of the embedded hub, seen by a plain HTTP client."""

import gzip
import json
import socket
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http.client import IncompleteRead, RemoteDisconnected
from urllib.parse import urlsplit

import pytest

from gglib_nb.demo import DemoRepository
from tests.support.faulty_hub import (
    BareEtag,
    Cut,
    Direct,
    Fault,
    FaultyHub,
    Gzipped,
    HangUp,
    IgnoreRange,
    Latency,
    LongBody,
    NoContentLength,
    NoLinkedHeaders,
    RangeNotSatisfiable,
    RateLimited,
    Redirect,
    ShortBody,
    Stall,
    Status,
    WrongBytes,
    WrongContentRange,
)
from tests.support.hub import Answer, ask, signed_url

SMALL, MODEL, SIZE = "demo/small-GGUF", "small-Q4_K_M.gguf", 300_000
RANGE = {"Range": "bytes=1000-1999"}


@pytest.fixture
def url(hub: FaultyHub) -> str:
    """The signed URL of a file of 300 000 bytes."""
    return signed_url(hub, SMALL, MODEL)


@pytest.fixture
def data(url: str) -> bytes:
    """The right bytes of that file."""
    return ask(url).body


def resolve(hub: FaultyHub, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    return ask(f"{hub.url}/{SMALL}/resolve/main/{MODEL}", method, headers)


def test_a_range_returns_the_requested_bytes(url: str, data: bytes) -> None:
    answer = ask(url, headers=RANGE)

    assert (answer.status, answer.body) == (206, data[1000:2000])
    assert answer.headers["Content-Range"] == "bytes 1000-1999/300000"


@pytest.mark.parametrize(
    ("asked", "content_range"),
    [
        ("bytes=299999-", "bytes 299999-299999/300000"),
        ("bytes=-10", "bytes 299990-299999/300000"),
        ("bytes=299000-999999", "bytes 299000-299999/300000"),
    ],
)
def test_open_ranges_end_with_the_file(url: str, asked: str, content_range: str) -> None:
    assert ask(url, headers={"Range": asked}).headers["Content-Range"] == content_range


def test_a_range_beyond_the_end_is_refused_with_the_size(url: str) -> None:
    answer = ask(url, headers={"Range": "bytes=300000-"})

    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */300000")


def test_a_cut_ends_the_body_after_the_given_bytes(hub: FaultyHub, url: str) -> None:
    hub.faults.add(Cut(after_bytes=12_345), origin="cdn")

    with pytest.raises(IncompleteRead) as cut:
        ask(url)

    assert len(cut.value.partial) == 12_345
    [record] = hub.wait_for(lambda records: records[-1].ended_s is not None)[-1:]
    assert (record.bytes_sent, record.is_whole) == (12_345, False)


def test_a_cut_can_be_a_reset(hub: FaultyHub, url: str) -> None:
    hub.faults.add(Cut(after_bytes=0, is_reset=True), origin="cdn")

    with pytest.raises(ConnectionResetError):
        ask(url)


def test_a_hang_up_sends_no_response(hub: FaultyHub, url: str) -> None:
    hub.faults.add(HangUp(), origin="cdn")

    with pytest.raises(RemoteDisconnected):
        ask(url)


def test_a_stall_holds_the_bytes_until_it_is_released(hub: FaultyHub, url: str, data: bytes) -> None:
    stall = Stall(after_bytes=5000)
    hub.faults.add(stall, origin="cdn")
    parts = urlsplit(url)

    with socket.create_connection(("127.0.0.1", parts.port or 0), timeout=5) as client, client.makefile("rb") as stream:
        client.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while stream.readline() != b"\r\n":
            pass
        before = stream.read(5000)
        sent_while_stalled = hub.requests[-1].bytes_sent
        stall.release()
        after = stream.read(SIZE - 5000)

    assert (before + after, sent_while_stalled) == (data, 5000)


def test_a_stall_can_end_after_a_time(hub: FaultyHub, url: str, data: bytes) -> None:
    hub.faults.add(Stall(after_bytes=5000, for_s=0.05), origin="cdn")

    answer = ask(url)

    assert answer.body == data
    record = hub.wait_for(lambda records: records[-1].is_whole)[-1]
    assert (record.ended_s or 0) - record.started_s >= 0.05


def test_a_stalled_request_ends_when_its_client_leaves(hub: FaultyHub, url: str) -> None:
    hub.faults.add(Stall(after_bytes=10), origin="cdn")

    with pytest.raises(TimeoutError):
        ask(url, timeout_s=0.1)

    records = hub.wait_for(lambda records: records[-1].origin == "cdn" and records[-1].ended_s is not None)
    assert not records[-1].is_whole


def test_a_latency_delays_the_response(hub: FaultyHub, url: str) -> None:
    hub.faults.add(Latency(delay_ms=60), origin="cdn")

    ask(url)

    record = hub.wait_for(lambda records: records[-1].ended_s is not None)[-1]
    assert (record.ended_s or 0) - record.started_s >= 0.06


def test_wrong_bytes_have_the_right_length(hub: FaultyHub, url: str, data: bytes) -> None:
    hub.faults.add(WrongBytes(at_byte=1500), origin="cdn")

    body = ask(url, headers=RANGE).body

    assert [index for index in range(1000) if body[index] != data[1000 + index]] == [500]


def test_a_short_body_matches_its_declared_length(hub: FaultyHub, url: str, data: bytes) -> None:
    hub.faults.add(ShortBody(missing_bytes=100), origin="cdn")

    answer = ask(url, headers=RANGE)

    assert (answer.body, answer.headers["Content-Length"]) == (data[1000:1900], "900")
    assert answer.headers["Content-Range"] == "bytes 1000-1999/300000"


def test_a_long_body_continues_beyond_the_end(hub: FaultyHub, url: str, data: bytes) -> None:
    hub.faults.add(LongBody(extra_bytes=7), origin="cdn")

    answer = ask(url)

    assert (answer.body[:SIZE], answer.headers["Content-Length"]) == (data, "300007")


def test_an_ignored_range_returns_the_whole_file(hub: FaultyHub, url: str, data: bytes) -> None:
    hub.faults.add(IgnoreRange(), origin="cdn")

    answer = ask(url, headers=RANGE)

    assert (answer.status, answer.body, answer.headers["Content-Range"]) == (200, data, None)


def test_a_wrong_range_is_declared_in_its_header(hub: FaultyHub, url: str, data: bytes) -> None:
    hub.faults.add(WrongContentRange(start_shift=-1000), origin="cdn")
    hub.faults.add(WrongContentRange(total_shift=1), origin="cdn", skip=1)

    other_start, other_total = ask(url, headers=RANGE), ask(url, headers=RANGE)

    assert (other_start.body, other_start.headers["Content-Range"]) == (data[:1000], "bytes 0-999/300000")
    assert (other_total.body, other_total.headers["Content-Range"]) == (data[1000:2000], "bytes 1000-1999/300001")


@pytest.mark.parametrize(("has_content_range", "content_range"), [(True, "bytes */300000"), (False, None)])
def test_a_range_can_be_refused(hub: FaultyHub, url: str, has_content_range: bool, content_range: str | None) -> None:
    hub.faults.add(RangeNotSatisfiable(has_content_range=has_content_range), origin="cdn")

    answer = ask(url, headers=RANGE)

    assert (answer.status, answer.headers["Content-Range"]) == (416, content_range)


@pytest.mark.parametrize("fault", [NoContentLength("close"), NoContentLength("chunked")])
def test_a_body_without_a_length_is_whole(hub: FaultyHub, url: str, data: bytes, fault: NoContentLength) -> None:
    hub.faults.add(fault, origin="cdn")

    answer = ask(url)

    assert (answer.body, answer.headers["Content-Length"]) == (data, None)


def test_gzip_is_sent_only_if_accepted(hub: FaultyHub, url: str, data: bytes) -> None:
    hub.faults.add(Gzipped(), origin="cdn", times=None)

    plain = ask(url, headers=RANGE)
    packed = ask(url, headers=RANGE | {"Accept-Encoding": "gzip"})

    assert (plain.status, plain.body) == (206, data[1000:2000])
    assert (packed.status, gzip.decompress(packed.body)) == (200, data)
    assert (packed.headers["Content-Encoding"], packed.headers["ETag"][:3]) == ("gzip", 'W/"')


def test_gzip_can_be_forced_on_a_client_that_refuses_it(hub: FaultyHub, url: str, data: bytes) -> None:
    hub.faults.add(Gzipped(is_forced=True), origin="cdn")

    packed = ask(url, headers=RANGE | {"Accept-Encoding": "identity"})

    assert (packed.status, gzip.decompress(packed.body)) == (200, data)


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 502, 503, 504])
def test_a_status_can_have_an_error_code(hub: FaultyHub, status: int) -> None:
    hub.faults.add(Status(status, error_code="RepoNotFound", error_message="gone"))
    hub.faults.add(Status(status), skip=1)

    coded, bare = resolve(hub), resolve(hub)

    assert (coded.status, coded.headers["X-Error-Code"], coded.headers["X-Error-Message"]) == (
        status,
        "RepoNotFound",
        "gone",
    )
    assert (bare.status, bare.headers["X-Error-Code"], bare.headers["X-Error-Message"]) == (status, None, None)


def test_a_503_is_temporary(hub: FaultyHub) -> None:
    hub.faults.add(Status(503, headers={"Retry-After": "1"}), times=2)

    answers = [resolve(hub) for _ in range(3)]

    assert [answer.status for answer in answers] == [503, 503, 302]
    assert answers[0].headers["Retry-After"] == "1"


def test_a_rate_limit_can_be_expressed_in_four_ways(hub: FaultyHub) -> None:
    hints = [
        rate_limit_headers(hub, RateLimited(seconds=7)),
        rate_limit_headers(hub, RateLimited(seconds=7, stated_by="ratelimit-not-exhausted")),
        rate_limit_headers(hub, RateLimited(seconds=7, stated_by="retry-after")),
        rate_limit_headers(hub, RateLimited(seconds=7, stated_by="nothing")),
    ]

    assert hints == [('"api";r=0;t=7', None), ('"api";r=41;t=250', "7"), (None, "7"), (None, None)]


def test_a_rate_limit_can_be_expressed_as_a_date(hub: FaultyHub) -> None:
    hub.faults.add(RateLimited(seconds=60, stated_by="http-date"))

    headers = resolve(hub).headers

    wait = parsedate_to_datetime(headers["Retry-After"]) - parsedate_to_datetime(headers["Date"])
    assert 59 <= wait.total_seconds() <= 61


def rate_limit_headers(hub: FaultyHub, fault: Fault) -> tuple[str | None, str | None]:
    hub.faults.add(fault)
    headers = resolve(hub).headers
    return headers["RateLimit"], headers["Retry-After"]


def test_a_redirect_can_be_absolute(hub: FaultyHub) -> None:
    hub.faults.add(Redirect())

    first = resolve(hub)

    assert (first.status, first.headers["Location"]) == (307, f"{hub.url}/{SMALL}/resolve/main/{MODEL}")
    assert ask(first.headers["Location"]).status == 302


def test_the_hub_can_answer_a_head_without_a_redirect(hub: FaultyHub) -> None:
    hub.faults.add(Direct(is_linked=True, is_bare=True), method="HEAD")

    head, get = resolve(hub, "HEAD"), resolve(hub)

    assert (head.status, head.headers["Content-Length"], head.headers["X-Linked-Size"]) == (200, "300000", "300000")
    assert len(head.headers["X-Linked-ETag"]) == 64
    assert get.status == 302


def test_the_hub_can_serve_ranges_itself(hub: FaultyHub, data: bytes) -> None:
    hub.faults.add(Direct(is_bare=False), origin="hub")

    answer = resolve(hub, headers=RANGE)

    assert (answer.status, answer.body, answer.headers["X-Linked-ETag"]) == (206, data[1000:2000], None)
    assert len(answer.headers["ETag"]) == 66


def test_a_digest_can_be_unquoted_or_missing(hub: FaultyHub) -> None:
    hub.faults.add(BareEtag())
    hub.faults.add(NoLinkedHeaders(), skip=1)

    bare, silent = resolve(hub), resolve(hub)

    assert len(bare.headers["X-Linked-ETag"]) == 64
    assert (silent.headers["X-Linked-ETag"], silent.headers["X-Linked-Size"]) == (None, None)
    assert silent.status == 302


def test_an_expired_url_is_refused_in_xml_without_a_code(hub: FaultyHub, url: str) -> None:
    hub.expire_signed_urls()

    answer = ask(url)

    assert (answer.status, answer.headers["X-Error-Code"], answer.headers["Content-Type"]) == (
        403,
        None,
        "application/xml",
    )
    assert ask(signed_url(hub, SMALL, MODEL)).status == 200


def test_signed_urls_expire(make_hub: Callable[..., FaultyHub], small_repositories: list[DemoRepository]) -> None:
    hub = make_hub(small_repositories, signed_url_ttl_s=0)

    assert ask(signed_url(hub, SMALL, MODEL)).status == 403


def test_a_changed_signature_is_refused(url: str) -> None:
    assert ask(url.replace("Signature=", "Signature=0")).status == 403


def test_a_fault_applies_only_to_its_path_origin_and_method(hub: FaultyHub, url: str) -> None:
    hub.faults.add(Status(500), path="*/other.gguf", times=None)
    hub.faults.add(Status(501), method="POST", times=None)
    placed = hub.faults.add(Status(502), path=f"{SMALL}/*Q4_K_M.gguf", origin="cdn", times=None)

    statuses = [resolve(hub).status, ask(url).status, ask(signed_url(hub, SMALL, "small-Q8_0.gguf")).status]

    assert statuses == [302, 502, 200]
    assert placed.hits == 1


def test_a_removed_fault_no_longer_applies(hub: FaultyHub) -> None:
    placed = hub.faults.add(Status(500), times=None)
    first = resolve(hub).status

    hub.faults.remove(placed)

    assert (first, resolve(hub).status) == (500, 302)


def test_a_small_file_is_served_through_a_relative_redirect(hub: FaultyHub) -> None:
    redirect = ask(f"{hub.url}/{SMALL}/resolve/main/README.md")
    answer = ask(hub.url + redirect.headers["Location"])

    assert (redirect.status, redirect.headers["Location"].startswith("/api/resolve-cache/models/")) == (307, True)
    assert (answer.status, answer.body) == (200, b"# small\n")
    assert answer.headers["ETag"] == redirect.headers["ETag"] == '"2091f334f141e56ebb8dbb4c7a76da45f29e48e4"'


def test_a_repository_has_a_web_page(hub: FaultyHub) -> None:
    front, page = ask(hub.url), ask(f"{hub.url}/demo/gated-GGUF")

    assert (front.status, SMALL in front.body.decode()) == (200, True)
    assert "hf_demo_granted" in page.body.decode()


def test_a_bad_query_gets_a_response(hub: FaultyHub) -> None:
    answer = ask(f"{hub.url}/api/models?limit=many")

    assert (answer.status, "error" in json.loads(answer.body)) == (400, True)
