"""The rules for HTTP responses that kernel and engine share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.http_rules import (
    ContentRange,
    asked_wait_s,
    backoff_s,
    content_range,
    is_private,
    origin_of,
    redirect_target,
    sha256_of,
    size_in,
    web_address,
)

DIGEST = "0123456789abcdef" * 4


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
        (503, {"retry-after": "Fri, 31 Dec 1999 22:59:59", "date": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0),
        (429, {"ratelimit": '"api";r=3;t=9, "resolvers";t=55;r=0, "pages";r=0;t=7'}, 56),
        (429, {"ratelimit": "limit=100, remaining=0, reset=5", "retry-after": "4"}, 4),
        (429, {"ratelimit": f'"api";r={"0" * 5000};t=5'}, 6),
        (503, {"retry-after": "1.5"}, 1.5),
        (503, {"retry-after": "Friday, 31-Dec-99 23:59:59 GMT", "date": "Fri Dec 31 23:59:49 1999"}, 10),
        (503, {"retry-after": "999999999999999999999"}, None),
        (429, {"retry-after": "-5"}, None),
        (429, {"retry-after": "²"}, None),
        (429, {}, None),
        (503, {"ratelimit": '"api";r=0;t=55'}, None),
        (503, {"retry-after": "120"}, 120),
        (408, {"retry-after": "5"}, None),
    ],
)
def test_retry_after_is_parsed(status, headers, wait_s) -> None:
    assert asked_wait_s(status, headers) == wait_s


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bytes 0-99/1000", ContentRange(0, 100, 1_000)),
        ("bytes 0-99/*", ContentRange(0, 100, None)),
        ("bytes */1000", ContentRange(None, None, 1_000)),
        (" Bytes=5-9/10 ", ContentRange(5, 10, 10)),
        ("bytes 99-0/1000", None),
        ("bytes 0-1000/1000", None),
        ("bytes 0-9223372036854775807/*", None),
        ("items 0-9/10", None),
        ("bytes 0-9", None),
        ("bytes \u0660-\u0669/\u0661", None),
        ("", None),
    ],
)
def test_a_content_range_is_parsed_or_none(text, found) -> None:
    assert content_range({"content-range": text}) == found


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        (" 12 ", 12),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("-1", None),
        ("1e3", None),
        (None, None),
    ],
)
def test_a_size_is_a_number_within_the_protocols_range(text, size) -> None:
    assert size_in(text) == size


@pytest.mark.parametrize("etag", [DIGEST, f'"{DIGEST}"', f'W/"{DIGEST}"', f' "{DIGEST.upper()}" '])
def test_a_digest_is_found_in_every_form_of_an_etag(etag) -> None:
    assert sha256_of(etag) == DIGEST


@pytest.mark.parametrize("etag", [None, "", '"abc"', "*" * 64, f'"{DIGEST}-5"', f"sha256:{DIGEST}"])
def test_any_other_etag_has_no_digest(etag) -> None:
    assert sha256_of(etag) is None


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/y?z=1", "https://hub.example/y?z=1"),
        ("other", "https://hub.example/a/other"),
        ("//cdn.example/x", "https://cdn.example/x"),
        ("?sign=1", "https://hub.example/a/b?sign=1"),
        ("https://cdn.example/a file.gguf", "https://cdn.example/a%20file.gguf"),
        ("https://cdn.example/a%20file.gguf?x=%C3%BC", "https://cdn.example/a%20file.gguf?x=%C3%BC"),
        (
            "https://cdn.example/m\u00c3\u00bcde.gguf",
            "https://cdn.example/m%C3%BCde.gguf",
        ),  # UTF-8, as http.client reads it
        ("https://cdn.example/m\u00fcde.gguf", "https://cdn.example/m%C3%BCde.gguf"),  # Latin-1
        ("https://b\u00c3\u00bccher.example/x", "https://xn--bcher-kva.example/x"),
        ("HTTPS://CDN.example:443/x#part", "https://cdn.example/x"),
        ("https://me:secret@cdn.example/x", "https://cdn.example/x"),
        ("http://[fe80::1%25eth0]:8080/x", "http://[fe80::1%25eth0]:8080/x"),
        ("https://cdn.example", "https://cdn.example/"),
        ("  https://cdn.example/x\t", "https://cdn.example/x"),
    ],
)
def test_a_redirect_is_followed_as_browsers_do(location, target) -> None:
    assert redirect_target("https://hub.example/a/b", location, "https://hub.example") == target


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("http://mirror.example/x?y=1", "https://mirror.example:8443/x?y=1"),
        ("http://MIRROR.example.:8443", "https://mirror.example:8443/"),
        ("http://mirror.example:9000/x", "http://mirror.example:9000/x"),  # another service
        ("http://cdn.example/x", "http://cdn.example/x"),
    ],
)
def test_a_mirror_that_names_itself_without_tls_keeps_its_tls(location, target) -> None:
    assert redirect_target("https://mirror.example:8443/a", location, "https://mirror.example:8443/hub") == target


@pytest.mark.parametrize(
    "location",
    [
        "",
        " ",
        "file:///etc/passwd",
        "https://a:99999/x",
        "https://a:b/x",
        "https://[::1/x",
        "https://a b/x",
        "https://" + "\u00fc" * 80 + "/x",
        "mailto:x",
    ],
)
def test_an_address_that_is_not_http_is_refused(location) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of several libraries
        redirect_target("https://hub.example/a/b", location, "https://hub.example")


@given(st.text(max_size=60))
def test_a_redirect_is_an_ascii_address_or_refused(location) -> None:
    try:
        target = redirect_target("https://hub.example/a/b", location, "https://hub.example")
    except ValueError:
        return
    assert target.isascii()
    assert not any(character in target for character in " \r\n\t")
    assert web_address(target) == target


def test_a_trailing_dot_does_not_change_a_host() -> None:
    assert origin_of("https://Hub.example./x") == origin_of("https://hub.example:443/")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "192.168.0.9", "169.254.169.254", "::1", "fe80::1%eth0", "localhost"]
)
def test_private_addresses_are_recognized(host) -> None:
    assert is_private(host)


@pytest.mark.parametrize("host", ["1.1.1.1", "2606:4700::1111", "cdn.example"])
def test_other_addresses_are_public(host) -> None:
    assert not is_private(host)


def test_delays_double_up_to_the_maximum() -> None:
    assert [backoff_s(failures, 1, 8, 1.0) for failures in range(1, 7)] == [1, 2, 4, 8, 8, 8]


def test_jitter_spreads_a_delay_over_its_upper_half() -> None:
    assert (backoff_s(1, 1, 8, 0.0), backoff_s(1, 1, 8, 1.0)) == (0.5, 1.0)


def test_a_million_failures_do_not_overflow() -> None:
    assert backoff_s(1_000_000, 1, 8, 1.0) == 8
