"""One table: which response is the requested one, and which error any other response raises."""

import time
from collections.abc import Iterator

import pytest

from gglib_nb.engine.http import (
    AskedRange,
    BusyError,
    MovedError,
    RangeIgnoredError,
    RefusedError,
    WrongAnswerError,
    WrongRangeError,
    check_answer,
)
from gglib_nb.errors import RemoteChangedError

RANGE = AskedRange(100, 200, 1_000)
ALL_AS_RANGE = AskedRange(0, 1_000, 1_000)
WHOLE = AskedRange(size_bytes=1_000)
UNKNOWN = AskedRange()


@pytest.mark.parametrize(
    ("asked", "status", "headers"),
    [
        (RANGE, 206, {"content-range": "bytes 100-199/1000"}),
        (RANGE, 206, {"content-range": "bytes 100-199/*"}),
        (RANGE, 206, {"content-range": "Bytes 100-199/1000", "content-encoding": " Identity"}),
        (WHOLE, 206, {"content-range": "bytes 0-999/1000"}),
        (ALL_AS_RANGE, 200, {}),
        (ALL_AS_RANGE, 200, {"content-length": "1000"}),
        (WHOLE, 200, {"content-length": "1000"}),
        (WHOLE, 200, {"content-length": "400", "content-encoding": "gzip"}),
        (UNKNOWN, 200, {}),
        (UNKNOWN, 200, {"content-length": "5"}),
        (UNKNOWN, 200, {"content-type": "text/html"}),
        (WHOLE, 200, {"content-length": "1000", "content-type": "text/html"}),
    ],
)
def test_the_requested_bytes_are_accepted(asked, status, headers) -> None:
    check_answer(status, headers, asked)


@pytest.mark.parametrize(
    ("asked", "status", "headers", "error"),
    [
        (RANGE, 206, {}, WrongRangeError),
        (RANGE, 206, {"content-type": "multipart/byteranges; boundary=x"}, WrongRangeError),
        (RANGE, 206, {"content-range": "bytes */1000"}, WrongRangeError),
        (RANGE, 206, {"content-range": "bytes 0-99/1000"}, WrongRangeError),
        (RANGE, 206, {"content-range": "bytes 100-199/999"}, WrongRangeError),
        (RANGE, 206, {"content-range": "bytes 100-199/1000", "content-encoding": "gzip"}, WrongRangeError),
        (WHOLE, 206, {"content-range": "bytes 0-998/1000"}, WrongRangeError),
        (RANGE, 200, {}, RangeIgnoredError),
        (ALL_AS_RANGE, 200, {"content-encoding": "gzip"}, RangeIgnoredError),
        (WHOLE, 200, {"content-length": "999"}, WrongAnswerError),
        (RANGE, 200, {"content-length": "999"}, WrongAnswerError),
        (RANGE, 200, {"content-length": "1000"}, RangeIgnoredError),
        (RANGE, 200, {"content-type": "Text/HTML; charset=utf-8"}, WrongAnswerError),
        (
            WHOLE,
            200,
            {"content-type": "text/html", "content-length": "99", "content-encoding": "gzip"},
            WrongAnswerError,
        ),
        (RANGE, 302, {"location": "/elsewhere"}, MovedError),
        (RANGE, 403, {}, RefusedError),
        (RANGE, 400, {}, RefusedError),
        (RANGE, 416, {}, WrongRangeError),
        (RANGE, 416, {"content-range": "bytes */1000"}, WrongRangeError),
        (RANGE, 416, {"content-range": "bytes */999"}, RemoteChangedError),
        (RANGE, 503, {}, BusyError),
        (RANGE, 522, {}, BusyError),
        (RANGE, 429, {}, BusyError),
        (RANGE, 418, {}, WrongAnswerError),
    ],
)
def test_any_other_response_raises_its_error(asked, status, headers, error) -> None:
    with pytest.raises(error):
        check_answer(status, headers, asked)


def test_a_busy_server_is_reported_with_its_retry_after() -> None:
    with pytest.raises(BusyError) as caught:
        check_answer(503, {"retry-after": "7"}, RANGE)

    assert (caught.value.status, caught.value.wait_s) == (503, 7)


@pytest.mark.parametrize(
    ("asked", "header"),
    [
        (RANGE, {"Range": "bytes=100-199"}),
        (WHOLE, {}),
    ],
)
def test_the_range_header_is_sent_only_for_a_range(asked, header) -> None:
    assert asked.header == header


@pytest.mark.parametrize(
    ("asked", "status", "headers", "end"),
    [
        (RANGE, 206, {"content-range": "bytes 100-149/1000"}, 150),
        (RANGE, 206, {"content-range": "bytes 100-999/1000"}, 200),
        (WHOLE, 200, {}, 1_000),
        (UNKNOWN, 200, {"content-length": "5"}, 5),
        (UNKNOWN, 200, {"content-length": "5", "content-encoding": "gzip"}, None),
        (UNKNOWN, 200, {"content-length": "99999999999999999999"}, None),
    ],
)
def test_a_shorter_range_is_accepted_with_its_own_length(asked, status, headers, end) -> None:
    assert check_answer(status, headers, asked) == end


@pytest.fixture(params=["UTC0", "PST8", "JST-9"])
def zone(request, monkeypatch) -> Iterator[None]:
    """This machine's zone."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("query", "has_expired"),
    [
        ("Expires=1000000000&Signature=x", True),
        ("Expires=1999999999.500&Signature=x", False),
        ("X-Amz-Date=20010909T014640Z&X-Amz-Expires=3600&X-Amz-Signature=x", True),
        ("X-Amz-Date=20010909T014640Z&X-Amz-Expires=4600&X-Amz-Signature=x", False),
        ("se=2001-09-09T02%3A46%3A40Z&sp=r&sig=x", True),
        ("sp=r&se=2001-09-09T03:46:40Z&sig=x", False),
        ("se=2001-09-09&sig=x", True),
        ("Expires=soon", False),
        ("Expires=3600", False),
        ("se=9999999999", False),
        ("", False),
    ],
)
@pytest.mark.usefixtures("zone")
def test_a_refused_address_states_whether_it_has_expired(query, has_expired) -> None:
    """By the server's clock, 2001-09-09 03:00: this machine's may be wrong, and has another zone."""
    with pytest.raises(RefusedError) as caught:
        check_answer(403, {"date": "Sun, 09 Sep 2001 03:00:00 GMT"}, RANGE, f"https://cdn/x?{query}")

    assert caught.value.may_be_limit is not has_expired
