"""One table: which answer is what was asked for, and which error says what to do with any other."""

import pytest

from gglib_nb.engine.http.answers import AskedRange, asked_wait_s, check_answer
from gglib_nb.engine.http.errors import (
    BusyError,
    ExpiredUrlError,
    MovedError,
    RangeIgnoredError,
    WrongAnswerError,
)
from gglib_nb.errors import RemoteChangedError

RANGE = AskedRange(100, 200, 1_000, is_whole=False)
ALL_AS_RANGE = AskedRange(0, 1_000, 1_000, is_whole=False)
WHOLE = AskedRange(0, 1_000, 1_000, is_whole=True)
UNKNOWN = AskedRange(0, None, None, is_whole=True)


@pytest.mark.parametrize(
    ("asked", "status", "headers"),
    [
        (RANGE, 206, {"content-range": "bytes 100-199/1000"}),
        (RANGE, 206, {"content-range": "bytes 100-199/*"}),
        (ALL_AS_RANGE, 200, {}),
        (ALL_AS_RANGE, 200, {"content-length": "1000"}),
        (WHOLE, 200, {"content-length": "1000"}),
        (WHOLE, 200, {"content-length": "400", "content-encoding": "gzip"}),
        (UNKNOWN, 200, {}),
        (UNKNOWN, 200, {"content-length": "5"}),
    ],
)
def test_the_bytes_that_were_asked_for_are_taken(asked, status, headers) -> None:
    check_answer(status, headers, asked)


@pytest.mark.parametrize(
    ("asked", "status", "headers", "error"),
    [
        (RANGE, 206, {}, WrongAnswerError),
        (RANGE, 206, {"content-range": "bytes 0-99/1000"}, WrongAnswerError),
        (RANGE, 206, {"content-range": "bytes 100-199/999"}, WrongAnswerError),
        (RANGE, 206, {"content-range": "bytes 100-199/1000", "content-encoding": "gzip"}, WrongAnswerError),
        (WHOLE, 206, {"content-range": "bytes 0-999/1000"}, WrongAnswerError),
        (RANGE, 200, {}, RangeIgnoredError),
        (ALL_AS_RANGE, 200, {"content-encoding": "gzip"}, RangeIgnoredError),
        (WHOLE, 200, {"content-length": "999"}, WrongAnswerError),
        (RANGE, 200, {"content-length": "999"}, WrongAnswerError),
        (RANGE, 200, {"content-length": "1000"}, RangeIgnoredError),
        (RANGE, 302, {"location": "/elsewhere"}, MovedError),
        (RANGE, 403, {}, ExpiredUrlError),
        (RANGE, 400, {}, ExpiredUrlError),
        (RANGE, 416, {}, WrongAnswerError),
        (RANGE, 416, {"content-range": "bytes */1000"}, WrongAnswerError),
        (RANGE, 416, {"content-range": "bytes */999"}, RemoteChangedError),
        (RANGE, 503, {}, BusyError),
        (RANGE, 429, {}, BusyError),
        (RANGE, 418, {}, WrongAnswerError),
    ],
)
def test_any_other_answer_says_what_to_do(asked, status, headers, error) -> None:
    with pytest.raises(error):
        check_answer(status, headers, asked)


def test_a_busy_server_is_quoted_with_what_it_asks_to_wait() -> None:
    with pytest.raises(BusyError) as caught:
        check_answer(503, {"retry-after": "7"}, RANGE)

    assert (caught.value.status, caught.value.wait_s) == (503, 7)


@pytest.mark.parametrize(
    ("asked", "header"),
    [
        (RANGE, {"Range": "bytes=100-199"}),
        (AskedRange(100, None, None, is_whole=False), {"Range": "bytes=100-"}),
        (WHOLE, {}),
    ],
)
def test_the_header_asks_for_the_range_and_for_nothing_where_the_whole_is_wanted(asked, header) -> None:
    assert asked.header == header


@pytest.mark.parametrize(
    ("status", "headers", "wait_s"),
    [
        (429, {"ratelimit": '"api";r=0;t=55'}, 56),
        (429, {"ratelimit": '"resolvers";r=0;t=0', "retry-after": "9"}, 1),
        (429, {"ratelimit": '"api";r=41;t=250', "retry-after": "7"}, 7),
        (429, {"ratelimit": '"api";r=41;t=250'}, None),
        (429, {"ratelimit": "nonsense", "retry-after": "3"}, 3),
        (429, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, None),
        (429, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT", "date": "Fri, 31 Dec 1999 22:59:59 GMT"}, 3600),
        (503, {"retry-after": "Fri, 31 Dec 1999 22:59:59 GMT", "date": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0),
        (503, {"retry-after": "Fri, 31 Dec 1999 22:59:59", "date": "Fri, 31 Dec 1999 23:59:59 GMT"}, None),
        (429, {"retry-after": "-5"}, None),
        (429, {"retry-after": "²"}, None),
        (429, {}, None),
        (503, {"ratelimit": '"api";r=0;t=55'}, None),
        (503, {"retry-after": "120"}, 120),
        (408, {"retry-after": "5"}, None),
    ],
)
def test_what_a_server_asks_to_wait(status, headers, wait_s) -> None:
    assert asked_wait_s(status, headers) == wait_s
