"""A malicious hub or repository: bounded time and memory, no file outside the models folder, no control of a terminal."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typing_extensions import override

from gglib_nb.domain.variants import variants_of
from gglib_nb.errors import GglibError, HubError, HubUnavailableError, NetworkError, RequestError
from gglib_nb.hub import transport
from gglib_nb.hub.client import HubClient
from gglib_nb.hub.transport import RetryPolicy
from gglib_nb.network import client as network_client
from gglib_nb.notebook import listings
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verbs import parse
from tests.support.faulty_hub import FaultyHub, Status
from tests.support.hub import make_repository
from tests.support.odd_server import OddServer, response

REPO = "demo/hostile-GGUF"
SHA = "c" * 40
HASTY = RetryPolicy(tries=1, timeout_s=5)

Body = Callable[[str], Iterator[bytes]]


@contextmanager
def hub_of(body: Body, status: int = 200, content_type: str = "application/json") -> Iterator[HubClient]:
    """A client of a server that answers every path with these pieces."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            try:
                for piece in body(self.path):
                    self.wfile.write(piece)
                    self.wfile.flush()
            except OSError:
                pass  # the client has disconnected

        @override
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield HubClient(f"http://127.0.0.1:{server.server_port}", retry_policy=HASTY)
    finally:
        server.shutdown()
        server.server_close()


def info(path: str) -> Iterator[bytes]:
    yield json.dumps({"id": REPO, "sha": SHA, "gated": False, "private": False}).encode()


def listing(entries: Iterator[dict[str, object]]) -> Body:
    def body(path: str) -> Iterator[bytes]:
        if "/tree/" not in path:
            yield from info(path)
            return
        yield b"[" + b",".join(json.dumps(entry).encode() for entry in entries) + b"]"

    return body


def test_a_search_shows_only_valid_repositories() -> None:
    rows = [{"id": name} for name in ("ok/model", "../etc", "\x1b[2J/x", "<script>/x", "a/b/c", "plain", 7)] + [{}]
    with hub_of(lambda _: iter([json.dumps(rows).encode()])) as client:
        assert [row.repo_id for row in client.search("x")] == ["ok/model"]


def test_search_results_cannot_control_a_terminal_or_page() -> None:
    row = {
        "id": "ok/model",
        "gguf": {"architecture": "\x1b[2J<script>alert(1)</script>\u202e"},
        "lastModified": "\x1b]0;x",
    }
    with hub_of(lambda _: iter([json.dumps([row]).encode()])) as client:
        found = client.search("x")

    assert "\x1b" not in listings.search_table(found).text()
    assert "\u202e" not in listings.search_table(found).text()
    assert "<script>" not in listings.search_table(found).html()


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        "[1]",
        '"text"',
        "7",
        "null",
        '{"error": {"a": 1}}',
        '{"Message": "no"}',
        '{"errors": [{}]}',
        "{",
        "\x00",
        "[[[[" * 10_000,
        f'{{"sha": {"9" * 5000}}}',
    ],
)
@pytest.mark.parametrize("status", [200, 400, 404, 500])
def test_a_response_of_any_form_raises_a_gglib_error(status, body) -> None:
    with hub_of(lambda _: iter([body.encode()]), status) as client, pytest.raises(GglibError):
        client.list_files(REPO)


@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_without_the_route_is_an_error_without_a_foreign_cause(status) -> None:
    with hub_of(lambda _: iter([b"<html>"]), status) as client, pytest.raises(GglibError) as refusal:
        client.list_files(REPO)

    cause = refusal.value.__cause__
    assert cause is None or isinstance(cause, GglibError)


@pytest.mark.parametrize("path", [5, None, "\ud800-Q8_0.gguf", "\ud800/m-Q8_0.gguf", "a\0b-Q8_0.gguf"])
@pytest.mark.parametrize("line", ["plan", "inspect", "queue --no-start"])
def test_a_listing_with_an_impossible_path_ends_in_a_sentence(make_manager, path, line) -> None:
    files = [{"type": "file", "path": path, "size": 10_000}]

    def answer(at: str) -> Iterator[bytes]:
        found = json.dumps(files if "/tree/" in at else {"id": REPO, "sha": SHA}).encode()
        return iter([found if "/api/" in at else b"no model"])

    with hub_of(answer) as client:
        session = Session(lambda: make_manager(endpoint=client.endpoint))
        with suppress(GglibError):
            parse(f"{line} {REPO}").run(session).text.encode()


@pytest.mark.parametrize(("status", "field"), [(400, "error"), (200, "sha")])
def test_an_error_message_is_short_and_free_of_control_characters(status, field) -> None:
    answer = json.dumps({field: "\x1b[2J\u202e" + "<b>" * 10_000}).encode()
    with hub_of(lambda _: iter([answer]), status) as client, pytest.raises(HubError) as caught:
        client.list_files(REPO)

    assert len(str(caught.value)) < 500
    assert not {"\x1b", "\u202e"} & set(str(caught.value))


def test_an_endless_response_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr(transport, "_LARGEST_ANSWER_BYTES", 1 << 20)

    def endless(_: str) -> Iterator[bytes]:
        yield b"["
        while True:
            yield b'{"a": 1},' * 10_000

    with hub_of(endless) as client, pytest.raises(HubError, match="more than 1 MiB, which is too large"):
        client.list_files(REPO)


@pytest.mark.parametrize(
    "ask",
    [lambda client: client.list_files(REPO), lambda client: client.read_range(REPO, SHA, "model.gguf", 0, 1000)],
    ids=["listing", "range"],
)
def test_a_trickling_response_is_given_up(monkeypatch, ask) -> None:
    monkeypatch.setattr(transport, "_LONGEST_ANSWER_S", 0.2)
    is_over = threading.Event()

    def trickle(_: str) -> Iterator[bytes]:
        while not is_over.wait(0.05):
            yield b" "

    with hub_of(trickle) as client, pytest.raises(HubUnavailableError, match="to send an answer"):
        ask(client)
    is_over.set()


def test_a_trickling_head_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr(network_client, "_LONGEST_HEAD_S", 0.3)

    def trickle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    with OddServer(trickle) as server, pytest.raises(NetworkError):
        HubClient(server.url, retry_policy=RetryPolicy(tries=1, timeout_s=0.5)).list_files(REPO)


@pytest.mark.parametrize("is_in_body", [False, True], ids=["head", "body"])
def test_a_trickling_head_ends_only_its_own_request(monkeypatch, is_in_body) -> None:
    monkeypatch.setattr(network_client, "_LONGEST_HEAD_S", 0.3)
    other_is_asked, other_has_begun, is_given_up = threading.Event(), threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        if "/slow" in server.ask(connection):
            with suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.05)
            is_given_up.set()
        else:
            answer = response(body=b"{}")
            begun = len(answer) - 1 if is_in_body else 0
            connection.sendall(answer[:begun])
            other_is_asked.set()
            assert is_given_up.wait(60)
            connection.sendall(answer[begun:])

    def ask_other() -> bytes:
        with client.stream("GET", f"{server.url}/other", timeout=60) as answer:
            other_has_begun.set()
            return answer.read()

    with OddServer(serve) as server, ThreadPoolExecutor(2) as pool:
        client, timeout = network_client.shared_client(), network_client.httpx.Timeout(60, read=1)
        other = pool.submit(ask_other)
        assert (other_has_begun if is_in_body else other_is_asked).wait(60)
        slow = pool.submit(client.get, f"{server.url}/slow", timeout=timeout)
        assert other.result(60) == b"{}"
        with pytest.raises(network_client.httpx.TransportError):
            slow.result(60)


def test_more_files_than_a_repository_can_have_are_not_read(monkeypatch) -> None:
    monkeypatch.setattr("gglib_nb.hub.client._MOST_ENTRIES", 100)
    entries = [{"type": "file", "path": f"{number}.gguf", "size": 1} for number in range(101)]

    with hub_of(listing(iter(entries))) as client, pytest.raises(HubError, match="more than 100 files"):
        client.list_files(REPO)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name", ["model-{0}-Q4_K_M.gguf", "model-Q4_K_M-{0:05}-of-99999.gguf", "{0}/lora.gguf", "m-mtp-{0}.gguf"]
)
def test_a_hundred_thousand_files_are_grouped_in_time(name) -> None:
    """A few seconds on an idle machine; comparing each with all others would take hours, and the time limit is the test."""
    files = [(name.format(number), 1_000_000) for number in range(1, 50_000)]
    files += [(name.replace("mtp-", "").format(number), 1_000_000) for number in range(50_000, 99_999)]

    variants_of(files)


@pytest.fixture
def hub(make_hub) -> FaultyHub:
    return make_hub()


def test_a_model_in_more_files_than_any_real_one_is_refused(hub, make_manager, monkeypatch) -> None:
    monkeypatch.setattr("gglib_nb.manager.resolving._MOST_FILES", 100)  # of 10,000, which are sent slowly
    files = {f"m-Q4_K_M-{number:05}-of-00101.gguf": b"x" for number in range(1, 102)}
    hub.add_repository(make_repository(REPO, files))

    with pytest.raises(RequestError, match="more than 100"):
        make_manager().sync.queue_smart(REPO)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "../out-Q4_K_M.gguf",
        "/tmp/out-Q4_K_M.gguf",
        "C:/out-Q4_K_M.gguf",
        "a\\..\\out-Q4_K_M.gguf",
        "\x1b[2J-Q4_K_M.gguf",
    ],
)
def test_a_name_outside_the_folder_is_refused_before_any_byte_is_downloaded(
    hub, make_manager, tmp_path: Path, path
) -> None:
    hub.add_repository(make_repository(REPO, {path: 5_000}))
    manager = make_manager()

    with pytest.raises(RequestError, match="cannot be stored here") as caught:
        manager.sync.download(REPO)

    assert "\x1b" not in str(caught.value)
    assert hub.bytes_sent() == 0
    assert [one for one in tmp_path.rglob("*") if "out" in one.name] == []


def test_a_variant_with_a_name_that_cannot_be_stored_does_not_hide_the_others(hub, make_manager) -> None:
    hub.add_repository(make_repository(REPO, {"m-Q4_K_M.gguf": 5_000, "m:latest-Q8_0.gguf": 6_000}))
    manager = make_manager()

    plan = manager.sync.plan(REPO)

    assert [(one.label, one.free_bytes_after is None) for one in plan.variants] == [("Q4_K_M", False), ("Q8_0", True)]
    assert manager.sync.download(REPO, "Q4_K_M").name == "m-Q4_K_M.gguf"
    with pytest.raises(RequestError, match="cannot be stored here"):
        manager.sync.download(REPO, "Q8_0")


def test_a_token_echoed_by_the_hub_is_not_shown(hub, make_manager) -> None:
    hub.add_repository(make_repository(REPO, {"m-Q4_K_M.gguf": 5_000}))
    hub.faults.add(Status(400, error_message="hf_abcdefghijklmnop and https://x/?X-Amz-Signature=0f0f"), times=None)

    with pytest.raises(HubError) as caught:
        make_manager(hf_token="hf_mine_0123456789").sync.download(REPO)

    assert "abcdefghijkl" not in str(caught.value)
    assert "0f0f" not in str(caught.value)
