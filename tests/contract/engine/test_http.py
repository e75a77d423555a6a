"""The engine's HTTP stack with unusual servers and proxies, byte by byte."""

import gzip
import itertools
import random
import selectors
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from gglib_nb import system
from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.http_rules import origin_of
from gglib_nb.domain.hub_answers import Asked
from gglib_nb.engine import http
from gglib_nb.engine.http import (
    BusyError,
    Connection,
    LineError,
    MovedError,
    RangeIgnoredError,
    RefusedError,
    Session,
    SilentError,
    WrongAnswerError,
)
from gglib_nb.engine.protocol import Configure
from gglib_nb.engine.resolve import Remote, resolve
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import GglibError, HubUnavailableError, InvalidConfigError, InvalidTokenError, RemoteChangedError
from gglib_nb.network.tls import tls_context
from gglib_nb.network.tunnels import open_stream
from tests.support.certificates import Company
from tests.support.odd_server import OddServer, Serve, answering, response

DIGEST = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
TIMEOUTS = Timeouts(connect_s=30, answer_s=30, stall_s=30)
Serving = Callable[..., OddServer]


def session_of(endpoint: str, token: str | None, timeouts: Timeouts = TIMEOUTS) -> Session:
    return Session(Configure(endpoint, token, None, 1, (), "test"), timeouts)


@pytest.fixture
def serving() -> Iterator[Serving]:
    """Starts a server; responses given as bytes are sent on every connection."""
    with ExitStack() as stack:

        def start(*served: bytes | Serve, host: str = "127.0.0.1") -> OddServer:
            made: list[OddServer] = []
            answers = [one for one in served if isinstance(one, bytes)]
            functions = [one for one in served if not isinstance(one, bytes)]
            made.append(OddServer(*functions or [answering(made, *answers)], host=host))
            return stack.enter_context(made[0])

        yield start


@pytest.fixture
def connect() -> Iterator[Callable[..., Connection]]:
    made: list[Connection] = []

    def make(endpoint: str = "http://hub.example", timeouts: Timeouts = TIMEOUTS) -> Connection:
        made.append(Connection(session_of(endpoint, None, timeouts)))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


def read_all(answer) -> bytes:
    buffer, data = memoryview(bytearray(1000)), bytearray()
    while count := answer.readinto(buffer):
        data += buffer[:count]
    answer.finish()
    return bytes(data)


def ranged(start: int, end: int, size: int, body: bytes, **headers: str) -> bytes:
    return response("206 Partial Content", body, content_range=f"bytes {start}-{end - 1}/{size}", **headers)


def asking(server: list[OddServer], *answers: bytes) -> Serve:
    return answering(server, *answers)


def test_ranges_are_requested_one_after_another_on_one_connection(serving, connect) -> None:
    server = serving(ranged(0, 4, 10, b"abcd"), ranged(4, 10, 10, b"efghij"))
    connection = connect()

    assert read_all(connection.request(f"{server.url}/x?y=1", 0, 4, 10)) == b"abcd"
    assert read_all(connection.request(f"{server.url}/x?y=1", 4, 10, 10)) == b"efghij"

    assert server.connections == 1
    assert [head.splitlines()[0] for head in server.requests] == ["GET /x?y=1 HTTP/1.1"] * 2
    assert ["Range: bytes=0-3" in server.requests[0], "Range: bytes=4-9" in server.requests[1]] == [True, True]


def test_a_shorter_range_ends_where_its_header_says(serving, connect) -> None:
    server = serving(ranged(0, 4, 10, b"abcd"), ranged(4, 10, 10, b"efghij"))
    connection = connect()

    answer = connection.request(server.url, 0, 10, 10)

    assert read_all(answer) == b"abcd"
    assert read_all(connection.request(server.url, 4, 10, 10)) == b"efghij"
    assert server.connections == 1


@pytest.mark.parametrize(
    "closing", [{"connection": "close"}, {"content_length": ""}], ids=["Connection: close", "HTTP/1.0"]
)
def test_a_connection_that_replaces_a_closed_one_can_be_aborted(serving, connect, closing) -> None:
    """It keeps the timeout, the address racing, and the socket that `abort` shuts down."""
    made: list[OddServer] = []
    hung = threading.Event()

    def hang(connection: socket.socket) -> None:
        made[0].ask(connection)
        hung.set()
        connection.recv(1)

    first = ranged(0, 4, 10, b"abcd", **closing).replace(b"HTTP/1.1", b"HTTP/1.0")
    made.append(serving(asking(made, first), hang))
    connection = connect(timeouts=Timeouts(answer_s=60))
    assert read_all(connection.request(made[0].url, 0, 4, 10)) == b"abcd"

    errors: list[Exception] = []

    def ask() -> None:
        try:
            connection.request(made[0].url, 4, 10, 10)
        except LineError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert hung.wait(30)
    connection.abort()
    thread.join(30)

    assert not thread.is_alive()
    assert len(errors) == 1


def test_a_session_closed_during_a_request_keeps_no_connection(serving) -> None:
    made: list[OddServer] = []
    asked, is_closed, has_ended = threading.Event(), threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        made[0].ask(connection)
        asked.set()
        is_closed.wait(30)
        connection.sendall(response(body=b""))
        if not connection.recv(1):
            has_ended.set()

    made.append(serving(serve))
    session = session_of(made[0].url, None, Timeouts(answer_s=60))
    thread = threading.Thread(target=session.head, args=(made[0].url, {}))
    thread.start()
    assert asked.wait(30)
    session.close()
    is_closed.set()
    thread.join(30)

    assert not session.close_idle()  # nothing was kept
    assert has_ended.wait(30)


def test_an_abort_before_the_tls_socket_is_known_closes_it(serving, tmp_path, monkeypatch) -> None:
    company, has_ended = Company(tmp_path), threading.Event()

    def serve(plain: socket.socket) -> None:
        with suppress(OSError), company.server().wrap_socket(plain, server_side=True) as connection:
            connection.recv(1)
        has_ended.set()

    server = serving(serve)
    monkeypatch.setenv("SSL_CERT_FILE", str(company.bundle))
    kept: list[socket.socket] = []

    def refuse_the_second(connected: socket.socket) -> None:
        kept.append(connected)
        if len(kept) == 2:
            raise ConnectionAbortedError("aborted")

    with pytest.raises(ConnectionAbortedError):
        open_stream(origin_of(server.url.replace("http:", "https:")), None, tls_context, 5, refuse_the_second)

    assert [one.fileno() for one in kept] == [-1, -1]
    assert has_ended.wait(30)


def test_an_aborted_connection_is_not_reopened(serving, connect) -> None:
    server = serving(response(body=b"x"))
    connection = connect()

    connection.abort()
    with pytest.raises(LineError):
        connection.request(server.url)

    assert server.requests == []


def test_an_aborted_request_on_a_kept_connection_opens_no_other(serving, connect) -> None:
    made: list[OddServer] = []
    hung = threading.Event()

    def hang(connection: socket.socket) -> None:
        made[0].ask(connection)
        connection.sendall(ranged(0, 4, 10, b"abcd"))
        made[0].ask(connection)
        hung.set()
        connection.recv(1)

    made.append(serving(hang, lambda connection: connection.close()))
    connection = connect(timeouts=Timeouts(answer_s=60))
    assert read_all(connection.request(made[0].url, 0, 4, 10)) == b"abcd"
    aborting = threading.Thread(target=lambda: hung.wait(30) and connection.abort())
    aborting.start()

    with pytest.raises(LineError):
        connection.request(made[0].url, 4, 10, 10)

    aborting.join(30)
    assert made[0].connections == 1


def test_a_kept_connection_that_the_server_has_closed_is_replaced_once(serving, connect) -> None:
    made: list[OddServer] = []
    made.append(serving(asking(made, ranged(0, 4, 10, b"abcd")), asking(made, ranged(4, 10, 10, b"efghij"))))
    connection = connect()

    assert read_all(connection.request(made[0].url, 0, 4, 10)) == b"abcd"
    assert read_all(connection.request(made[0].url, 4, 10, 10)) == b"efghij"
    assert made[0].connections == 2


def test_a_new_connection_closed_at_once_counts_as_refused(serving, connect) -> None:
    with pytest.raises(LineError) as caught:
        connect().request(serving(lambda connection: connection.close()).url)

    assert caught.value.may_be_limit


def test_a_connection_idle_for_long_is_not_reused(serving, connect, monkeypatch) -> None:
    """A router may have dropped it, which is visible only after a timeout."""
    monkeypatch.setattr("gglib_nb.engine.http._IDLE_S", 0.0)
    server = serving(ranged(0, 4, 10, b"abcd"))
    connection = connect()

    for _ in range(2):
        read_all(connection.request(server.url, 0, 4, 10))

    assert server.connections == 2


def trickling(server: list[OddServer], answer: bytes, every_s: float = 0.05) -> Serve:
    def serve(connection: socket.socket) -> None:
        server[0].ask(connection)
        for index in range(len(answer)):
            connection.sendall(answer[index : index + 1])
            time.sleep(every_s)  # the fault itself

    return serve


def test_slow_headers_do_not_exceed_the_time_limit(serving, connect) -> None:
    made: list[OddServer] = []
    made.append(serving(trickling(made, response(x="y" * 500))))
    began_s = time.monotonic()

    with pytest.raises(SilentError, match=rf"127.0.0.1:{made[0].port} has not answered for 0 s|for 1 s"):
        connect(timeouts=Timeouts(answer_s=0.5)).request(made[0].url)

    assert time.monotonic() - began_s < 20  # all of them take more


def test_a_redirect_with_a_slow_body_is_followed_without_waiting(serving, connect) -> None:
    made: list[OddServer] = []

    def serve(connection: socket.socket) -> None:
        made[0].ask(connection)
        connection.sendall(response("302 Found", location="/y", content_length="60000"))
        trickling(made, b"x" * 1000)(connection)

    made.append(serving(serve))
    began_s = time.monotonic()

    with pytest.raises(MovedError):
        connect().request(made[0].url)

    assert time.monotonic() - began_s < 30  # the body takes longer


@pytest.mark.parametrize("status", ["302 Found", "403 Forbidden", "503 Busy", "200 OK"])
@pytest.mark.parametrize("has_length", [True, False])
def test_an_unneeded_body_is_not_read(serving, connect, status, has_length) -> None:
    made: list[OddServer] = []
    sent = [0]

    def serve(connection: socket.socket) -> None:
        made[0].ask(connection)
        fields = {"location": "/y", "content_length": "600000000" if has_length else ""}
        connection.sendall(response(status, **fields))
        for _ in range(600):
            connection.sendall(bytes(1_000_000))
            sent[0] += 1_000_000

    made.append(serving(serve))
    connection = connect()

    with pytest.raises((MovedError, RefusedError, BusyError, RangeIgnoredError)):
        connection.request(made[0].url, 0, 10, None)
    connection.close()

    assert sent[0] < 20_000_000


def test_interim_responses_are_skipped(serving, connect) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
    server = serving(b"HTTP/1.1 100 Continue\r\n\r\n" + hints * 2 + ranged(0, 4, 10, b"abcd"))

    assert read_all(connect().request(server.url, 0, 4, 10)) == b"abcd"


def test_endless_interim_responses_are_given_up(serving, connect) -> None:
    server = serving(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)

    with pytest.raises(LineError):
        connect().request(server.url)


def chunked(*pieces: bytes, trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"


def test_a_chunked_body_with_a_trailer_keeps_its_connection(serving, connect) -> None:
    body = chunked(b"ab", b"cd", trailer=b"X-Sum: 1\r\n")
    one = ranged(0, 4, 10, body, content_length="", transfer_encoding="chunked")
    server = serving(one, one)
    connection = connect()

    for _ in range(2):
        assert read_all(connection.request(server.url, 0, 4, 10)) == b"abcd"

    assert server.connections == 1


@pytest.mark.parametrize("coding", ["aws-chunked", "binary", "none", "UTF-8", "identity, identity"])
def test_a_coding_that_compresses_nothing_is_ignored(serving, connect, coding) -> None:
    server = serving(ranged(0, 4, 10, b"abcd", content_encoding=coding))

    assert read_all(connect().request(server.url, 0, 4, 10)) == b"abcd"


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "GZIP"])
def test_a_compressed_whole_file_is_decompressed(serving, connect, coding) -> None:
    data = b"GGUF" * 10_000
    packed = zlib.compress(data) if coding == "deflate" else gzip.compress(data)
    server = serving(response(body=packed, content_encoding=coding))
    answer = connect().request(server.url)
    buffer, got = memoryview(bytearray(7_000)), bytearray()

    while count := answer.readinto(buffer):
        got += buffer[:count]

    assert bytes(got) == data


@pytest.mark.parametrize("padding", [b"", bytes(70_000)])
def test_all_members_of_a_compressed_body_are_read(serving, connect, padding) -> None:
    members = [b"GGUF" * 10_000, b"", b"x" * 40_000, b"y"]
    packed = b"".join(gzip.compress(member) + padding for member in members)
    answer = connect().request(serving(response(body=packed, content_encoding="gzip")).url)
    buffer, got = memoryview(bytearray(7_000)), bytearray()

    while count := answer.readinto(buffer):
        got += buffer[:count]

    assert bytes(got) == b"".join(members)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            response(
                body=gzip.compress(b"first", mtime=0) + gzip.compress(b"x" * 99, mtime=0)[:-9], content_encoding="gzip"
            ),
            LineError,
        ),
        (response(body=gzip.compress(b"x" * 10_000, mtime=0)[:-20], content_encoding="gzip"), LineError),
        (response(body=gzip.compress(b"first", mtime=0), content_length="99", content_encoding="gzip"), LineError),
        (response(body=b"", content_length="99", content_encoding="gzip"), LineError),
        (response(body=b"no gzip at all", content_encoding="gzip"), LineError),
        (response(body=b"x", content_encoding="br"), WrongAnswerError),
        (response(body=b"abc", content_length="10"), LineError),
        (response(body=b"4\r\nab", content_length="", transfer_encoding="chunked"), LineError),
        (response(body=b"zz\r\nab\r\n", content_length="", transfer_encoding="chunked"), LineError),
        (b"SSH-2.0-OpenSSH_9.6\r\n", LineError),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 5_000 + b"\r\n", LineError),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000, LineError),
        (b"", LineError),
    ],
)
def test_a_broken_body_is_a_failed_exchange(serving, connect, answer, error) -> None:
    server = serving(answer)

    with pytest.raises(error):
        read_all(connect().request(server.url))


def test_a_compressed_body_on_a_slow_line_is_read_as_it_arrives(serving, connect) -> None:
    """Python's `gzip` waits for 8 KiB, and from Python 3.12 on for 128 KiB, longer than a connection may be silent."""
    data, has_read = random.Random(1).randbytes(20_000), threading.Event()
    body = response(body=gzip.compress(data, mtime=0), content_encoding="gzip")

    def serve(connection: socket.socket) -> None:
        server.ask(connection)
        connection.sendall(body[:6_000])
        if has_read.wait(60):
            connection.sendall(body[6_000:])

    server = serving(serve)
    answer = connect().request(server.url)
    buffer = memoryview(bytearray(1_000))

    got = bytes(buffer[: answer.readinto(buffer)])
    has_read.set()
    while count := answer.readinto(buffer):
        got += buffer[:count]

    assert got == data


def test_a_compressed_body_needs_no_more_memory_than_the_buffer(serving, connect) -> None:
    packed = gzip.compress(bytes(10_000_000))
    server = serving(response(body=packed, content_encoding="gzip"))
    answer = connect().request(server.url)
    buffer, total = memoryview(bytearray(1 << 20)), 0

    while count := answer.readinto(buffer):
        total += count

    assert total == 10_000_000


def test_what_a_server_sends_in_place_of_http_is_quoted_without_control_characters(serving, connect) -> None:
    server = serving(b"SSH-2.0-\x1b[2J\x9b1A here\r\n")

    with pytest.raises(LineError, match=r"^SSH-2\.0- \[2J 1A here$"):
        connect().request(server.url, 0, 4, 10)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999/", "http://[::1/", "http://127.0.0.1:1/\r\nX: y", "http://ü\x00.example/"]
)
def test_an_impossible_address_is_a_failed_exchange(connect, url) -> None:
    with pytest.raises((LineError, WrongAnswerError)):
        connect().request(url)


def test_an_ipv6_host_is_written_in_brackets(serving, connect) -> None:
    server = serving(response(body=b"x"), host="::1")

    assert read_all(connect().request(server.url)) == b"x"
    assert f"Host: [::1]:{server.port}" in server.requests[0]


# The hub's responses.


def resolved(
    endpoint: str, sha256: str | None = None, size_bytes: int | None = None, token: str | None = None
) -> Remote:
    session = session_of(endpoint, token)
    try:
        address = Asked(session.endpoint, "a/b", "c" * 40, "m üde.gguf")
        return resolve(session, address, PlannedFile("m üde.gguf", size_bytes, sha256, "/m.gguf"))
    finally:
        session.close()


def test_the_redirect_carries_size_and_digest_and_its_address_is_quoted(serving) -> None:
    location = "https://cdn.example/m üde.gguf?sig=a b".encode().decode("latin-1")
    fields = {"x_linked_size": "10", "x_linked_etag": f'W/"{DIGEST.upper()}"'}
    server = serving(response("302 Found", location=location, **fields))

    remote = resolved(server.url)

    assert remote == Remote("https://cdn.example/m%20%C3%BCde.gguf?sig=a%20b", 10, DIGEST)
    assert server.requests[0].startswith(f"GET /a/b/resolve/{'c' * 40}/m%20%C3%BCde.gguf HTTP/1.1")


@pytest.mark.parametrize(
    "location", ["", "https://a:b/x", "https://[::1/x", "file:///etc/passwd", "https://a b/x", "http://" + "x" * 300]
)
def test_a_redirect_without_an_address_names_the_host(serving, location) -> None:
    server = serving(response("302 Found", location=location))

    with pytest.raises(HubUnavailableError, match=rf"127\.0\.0\.1:{server.port} redirects"):
        resolved(server.url)


def test_an_etag_fills_in_an_unknown_digest_and_is_marked_as_a_guess(serving) -> None:
    server = serving(ranged(0, 1, 10, b"x", etag=f'"{OTHER}"'))

    remote = resolved(server.url)

    assert (remote.sha256, remote.has_guessed_sha256, remote.size_bytes) == (OTHER, True, 10)


def test_an_etag_never_contradicts_a_known_digest(serving) -> None:
    """A mirror may pass on the CDN's ETag, which is another hash of the same form."""
    server = serving(ranged(0, 1, 10, b"x", etag=f'"{OTHER}"'))

    remote = resolved(server.url, DIGEST)

    assert (remote.sha256, remote.has_guessed_sha256) == (DIGEST, False)


def test_an_etag_declared_as_a_xet_hash_is_not_a_digest(serving) -> None:
    server = serving(ranged(0, 1, 10, b"x", etag=f'"{OTHER}"', x_xet_hash=OTHER))

    assert resolved(server.url).sha256 is None


def test_a_hub_digest_other_than_the_planned_one_is_refused(serving) -> None:
    server = serving(response("302 Found", location="https://cdn.example/x", x_linked_etag=f'"{OTHER}"'))

    with pytest.raises(RemoteChangedError):
        resolved(server.url, DIGEST)


def test_a_connection_that_the_machine_slept_through_is_not_used_again(serving, monkeypatch) -> None:
    made: list[OddServer] = []
    made.append(serving(answering(made, response(body=b"x"), response(body=b"x"))))
    session = session_of(made[0].url, None)
    session.head(f"{made[0].url}/x", {})

    monkeypatch.setattr(http, "clock_s", lambda: system.clock_s() + 3600, raising=False)
    session.head(f"{made[0].url}/x", {})
    session.close()

    assert made[0].connections == 2


def test_the_facts_of_a_redirect_count_although_the_next_answer_of_the_hub_does_not_state_them(serving) -> None:
    first = response("302 Found", location="/files/x", x_linked_size="10", x_linked_etag=f'"{DIGEST}"')
    server = serving(first, response(body=b"x" * 10, content_encoding="gzip", etag=f'"{OTHER}"'))

    remote = resolved(server.url)

    assert (remote.size_bytes, remote.sha256, remote.has_guessed_sha256) == (10, DIGEST, False)


def test_a_file_of_another_commit_is_refused_if_no_digest_would_show_it(serving) -> None:
    moved = response("302 Found", location="https://cdn.example/x", x_repo_commit="d" * 40)

    with pytest.raises(RemoteChangedError):
        resolved(serving(moved).url)

    assert resolved(serving(moved).url, DIGEST).sha256 == DIGEST


def test_an_invalid_size_is_unknown(serving) -> None:
    server = serving(response("302 Found", location="https://cdn.example/x", x_linked_size="9" * 30))

    assert resolved(server.url).size_bytes is None


def test_a_mirrors_redirect_to_the_hub_is_followed_on_the_mirror(serving) -> None:
    """Including the path of its endpoint, as in Artifactory."""
    made: list[OddServer] = []
    moved = response("307 Moved", location="https://huggingface.co/new/name/resolve/main/m.gguf")
    made.append(serving(asking(made, moved, ranged(0, 1, 10, b"x"))))

    remote = resolved(f"{made[0].url}/api/hub/")

    assert remote.url == f"{made[0].url}/api/hub/new/name/resolve/main/m.gguf"


def test_a_mirrors_redirect_to_the_same_file_on_the_hub_is_followed_to_the_hub(serving) -> None:
    same = f"https://huggingface.co/a/b/resolve/{'c' * 40}/m%20%C3%BCde.gguf"
    server = serving(response("302 Found", location=same))

    assert resolved(server.url, DIGEST).url == same


def test_a_redirect_within_the_hub_keeps_the_token_and_any_other_drops_it(serving) -> None:
    other = serving(response("302 Found", location="https://cdn.example/x"))
    server = serving(response("307 Moved", location="/moved"), response("302 Found", location=f"{other.url}/x"))

    remote = resolved(server.url, DIGEST, token="hf_secret")
    read = Connection(session_of(server.url, "hf_secret"))
    with pytest.raises(MovedError):
        read.request(remote.url, 0, 1)
    read.close()

    assert all("Authorization: Bearer hf_secret" in head for head in server.requests)
    assert "Authorization" not in other.requests[0]


@pytest.mark.parametrize(
    "status", ["507 Full", "520 Unknown Error", "522 Connection Timed Out", "530 Origin", "599 Proxy"]
)
def test_any_failure_of_the_hub_or_of_a_proxy_before_it_is_temporary(status) -> None:
    servers: list[OddServer] = []
    with OddServer(answering(servers, response(status))) as server:
        servers.append(server)
        with pytest.raises(BusyError):
            resolved(server.url)


def test_circular_redirects_are_given_up(serving) -> None:
    server = serving(*[response("302 Found", location="/round")] * 20)

    with pytest.raises(HubUnavailableError):
        resolved(server.url)


def test_a_login_page_is_not_accepted_as_the_file(serving) -> None:
    server = serving(response(body=b"<html>", content_type="Text/HTML"))

    with pytest.raises(WrongAnswerError, match="web page"):
        resolved(server.url)


@pytest.mark.parametrize(
    ("endpoint", "location", "is_refused"),
    [
        ("https://hub.example", "http://cdn.example/x", True),
        ("https://hub.example", "https://127.0.0.1/x", True),
        ("https://hub.example", "https://[fd00::1]/x", True),
        ("https://hub.example", "https://cdn.example/x", False),
        ("http://127.0.0.1:8080", "http://127.0.0.1:9090/x", False),
        ("http://hub.example", "http://cdn.example/x", False),
    ],
)
def test_without_a_digest_no_bytes_are_accepted_from_a_suspicious_redirect(
    monkeypatch, endpoint, location, is_refused
) -> None:
    def lookup(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        address = "1.1.1.1" if host.endswith(".example") else host
        return [(None, None, None, "", (address, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(Session, "head", lambda *_: (302, {"location": location}))

    assert resolved(endpoint, DIGEST).url == location
    if is_refused:
        with pytest.raises(HubUnavailableError, match=r"hub\.example redirects to"):
            resolved(endpoint)
    else:
        assert resolved(endpoint).url == location


@pytest.mark.parametrize("token", ["hf_a b", "hf_\n", "hf_ü", ""])
def test_a_token_invalid_in_a_header_is_reported_and_not_quoted(token) -> None:
    with pytest.raises(InvalidTokenError) as caught:
        resolved("http://127.0.0.1:1", token=token)

    assert "hf_" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["hub.example", "ftp://hub.example", "https://a:b", "https://", ""])
def test_an_invalid_endpoint_is_reported(endpoint) -> None:
    with pytest.raises(InvalidConfigError, match="HF_ENDPOINT"):
        resolved(endpoint)


# Proxies.


@pytest.fixture
def socks() -> Iterator[Callable[..., OddServer]]:
    with ExitStack() as stack:

        def start(login: tuple[bytes, bytes] | None = None, reply: int = 0) -> OddServer:
            return stack.enter_context(OddServer(lambda one: _serve_socks(one, login, reply)))

        yield start


def _serve_socks(connection: socket.socket, login: tuple[bytes, bytes] | None, reply: int) -> None:
    if not _let_in(connection, login):
        return
    _, _, _, kind = _take(connection, 4)
    host = socket.inet_ntoa(_take(connection, 4)) if kind == 1 else _take(connection, _take(connection, 1)[0]).decode()
    (port,) = struct.unpack("!H", _take(connection, 2))
    _send(connection, bytes([5, reply, 0, 3, 4]) + b"name" + b"\x00\x00")
    if reply:
        return
    with socket.create_connection((host, port)) as target:
        back = threading.Thread(target=_pipe, args=(target, connection), daemon=True)
        back.start()
        _pipe(connection, target)
        back.join(60)


def _let_in(connection: socket.socket, login: tuple[bytes, bytes] | None) -> bool:
    methods = _take(connection, _take(connection, 2)[1])
    if login is None or 2 not in methods:
        _send(connection, b"\x05\xff" if login else b"\x05\x00")
        return login is None
    _send(connection, b"\x05\x02")
    _, length = _take(connection, 2)
    given = _take(connection, length), _take(connection, _take(connection, 1)[0])
    _send(connection, b"\x01\x00" if given == login else b"\x01\x01")
    return given == login


def _take(connection: socket.socket, count: int) -> bytes:
    return b"".join(connection.recv(1) for _ in range(count))


def _send(connection: socket.socket, data: bytes) -> None:
    for byte in data:  # byte by byte, as a network may
        connection.sendall(bytes([byte]))


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("login", [None, ("me", "p@ss")])
def test_a_file_is_downloaded_through_a_socks_proxy(serving, socks, connect, monkeypatch, scheme, login) -> None:
    server = serving(response(body=b"x"))
    proxy = socks(None if login is None else tuple(text.encode() for text in login))
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://{'' if login is None else 'me:p%40ss@'}127.0.0.1:{proxy.port}")

    assert read_all(connect().request(server.url.replace("127.0.0.1", "localhost"))) == b"x"
    assert proxy.connections == 1


def test_a_socks_proxy_that_rejects_the_login_is_reported(serving, socks, connect, monkeypatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks5://me:wrong@127.0.0.1:{socks((b'me', b'right')).port}")

    with pytest.raises(InvalidConfigError, match=r"\(407\)") as caught:
        connect().request("http://hub.example/x")

    assert "wrong" not in str(caught.value)


def test_a_socks_proxy_that_cannot_reach_the_host_is_a_failed_exchange(socks, connect, monkeypatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{socks(reply=4).port}")

    with pytest.raises(LineError):
        connect().request("http://hub.example/x")


def test_a_socks_proxy_without_a_version_shows_the_correct_form(connect, monkeypatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://me:secret@127.0.0.1:1080")

    with pytest.raises(InvalidConfigError, match="socks5://") as caught:
        connect().request("http://hub.example/x")

    assert "secret" not in str(caught.value)


def test_a_silent_proxy_is_given_up_in_time(serving, connect, monkeypatch) -> None:
    proxy = serving(lambda connection: connection.recv(100_000) and connection.recv(1))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    began_s = time.monotonic()

    with pytest.raises(SilentError, match=r"hub\.example"):
        connect(timeouts=Timeouts(connect_s=0.5, answer_s=60)).request("https://hub.example/x")

    assert time.monotonic() - began_s < 30


def test_a_refused_read_leaves_no_thread_and_no_socket(serving, connect) -> None:
    """Each broken connection used to leave a socket to the garbage collector, which pytest reports."""
    server = serving(*[response("403 Forbidden")] * 3)
    connection = connect()
    before = set(threading.enumerate())

    for _ in range(3):
        with pytest.raises(RefusedError):
            connection.request(server.url, 0, 10, 10)

    assert server.connections == 1
    assert set(threading.enumerate()) - before <= server.threads


def test_a_truncated_response_is_a_failed_exchange(serving, connect) -> None:
    """Truncated anywhere, a response gives its bytes or fails; a part is never accepted as the whole."""
    body = chunked(b"abcd", b"efgh", trailer=b"X: y\r\n")
    whole = response(body=body, content_length="", transfer_encoding="chunked", content_type="x/y")
    made: list[OddServer] = []
    cuts = [asking(made, whole[:count]) for count in range(0, len(whole) + 1, 3)]
    made.append(serving(*cuts))

    for _ in itertools.islice(cuts, len(cuts) - 1):
        connection = connect()
        with suppress(LineError):
            assert read_all(connection.request(made[0].url)) == b"abcdefgh"
        connection.close()


def _tunnel(company: Company) -> Serve:
    """A proxy reached over TLS: one CONNECT, then any bytes."""

    def serve(plain: socket.socket) -> None:
        with company.server().wrap_socket(plain, server_side=True) as connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            host, _, port = head.split()[1].decode().rpartition(":")
            with socket.create_connection((host, int(port))) as target:
                connection.sendall(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")
                _relay(connection, target)

    return serve


def _relay(connection: ssl.SSLSocket, target: socket.socket) -> None:
    """Both directions on one thread, because two threads must not share a TLS socket."""
    with selectors.DefaultSelector() as waiting, suppress(OSError):
        waiting.register(connection, selectors.EVENT_READ)
        waiting.register(target, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in waiting.select(10)]
            for one, other in ((connection, target), (target, connection)):
                if one in ready or (one is connection and connection.pending()):
                    data = one.recv(65536)
                    if not data:
                        return
                    other.sendall(data)


def test_a_file_is_downloaded_over_tls_through_a_tls_proxy(serving, connect, monkeypatch, tmp_path) -> None:
    company = Company(tmp_path)
    body = bytes(range(256)) * 4_000
    made: list[OddServer] = []

    def serve(plain: socket.socket) -> None:
        with company.server().wrap_socket(plain, server_side=True) as connection:
            answering(made, ranged(0, 4, 10, b"abcd"), response(body=body))(connection)

    made.append(serving(serve))
    proxy = serving(_tunnel(company))
    monkeypatch.setenv("SSL_CERT_FILE", str(company.bundle))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http:", "https:"))
    connection = connect(timeouts=TIMEOUTS)
    url = made[0].url.replace("http:", "https:")

    assert read_all(connection.request(url, 0, 4, 10)) == b"abcd"
    assert read_all(connection.request(url)) == body
    assert (made[0].connections, proxy.connections) == (1, 1)


def test_a_certificate_behind_a_tls_proxy_is_checked(serving, connect, monkeypatch, tmp_path) -> None:
    (tmp_path / "other").mkdir()
    company, other = Company(tmp_path), Company(tmp_path / "other")

    def serve(plain: socket.socket) -> None:
        with suppress(ssl.SSLError), other.server().wrap_socket(plain, server_side=True) as connection:
            connection.recv(1)

    server, proxy = serving(serve), serving(_tunnel(company))
    monkeypatch.setenv("SSL_CERT_FILE", str(company.bundle))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http:", "https:"))

    with pytest.raises(GglibError, match="is not trusted"):
        connect(timeouts=TIMEOUTS).request(server.url.replace("http:", "https:"))
