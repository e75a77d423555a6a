"""Unreachable IPv6: connecting, listing and downloading switch to IPv4 at once, without a timeout for each."""

import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.hub.client import HubClient
from gglib_nb.hub.transport import RetryPolicy
from gglib_nb.network import dialing
from tests.support.blackhole import Blackhole, dual_stack
from tests.support.engine import LocalEngine
from tests.support.faulty_hub import FaultyHub, NoContentLength, NoLinkedHeaders
from tests.support.ports import free_port

REPO = "demo/small-GGUF"
NAME = "small-Q4_K_M.gguf"
HOST = "dual.test"
# The duration of one attempt at the blackhole.
TIMEOUT_S = 60.0


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch) -> None:
    monkeypatch.setattr(dialing, "_won", {})


@pytest.fixture
def port(hub: FaultyHub, monkeypatch) -> Iterator[int]:
    """The hub's port, at which `dual.test` has a blackhole and the hub."""
    dual_stack(monkeypatch, HOST)
    port = int(hub.url.rpartition(":")[2])
    with Blackhole(port):
        yield port


def test_a_connection_is_made_to_the_address_that_answers(port) -> None:
    with dialing.connect(HOST, port, TIMEOUT_S) as connection:
        assert connection.family == socket.AF_INET
        assert connection.gettimeout() == TIMEOUT_S


def test_the_address_family_that_won_is_tried_first_next_time(port) -> None:
    dialing.connect(HOST, port, TIMEOUT_S).close()

    assert [family for family, _ in dialing._addresses(HOST, port)] == [socket.AF_INET, socket.AF_INET6]


def test_the_address_family_that_won_at_one_port_says_nothing_of_another(port) -> None:
    dialing.connect(HOST, port, TIMEOUT_S).close()

    assert [family for family, _ in dialing._addresses(HOST, port + 1)] == [socket.AF_INET6, socket.AF_INET]


def test_a_listing_does_not_wait_for_an_unreachable_address(port) -> None:
    client = HubClient(f"http://{HOST}:{port}", retry_policy=RetryPolicy(tries=1, timeout_s=TIMEOUT_S))

    assert client.list_files(REPO).repo_id == REPO


@pytest.mark.parametrize("is_odd", [False, True], ids=["ranges", "the whole"])
def test_a_download_does_not_wait_for_an_unreachable_address(hub, port, tmp_path, monkeypatch, is_odd) -> None:
    # The storage has the same name.
    hub._cdn.origin_url = hub.cdn_url.replace("127.0.0.1", HOST)
    if is_odd:
        hub.faults.add(NoLinkedHeaders(), times=None)
        hub.faults.add(NoContentLength(), origin="cdn", times=None)
    timeouts = replace(Timeouts(), connect_s=TIMEOUT_S, answer_s=TIMEOUT_S)
    with Blackhole(int(hub.cdn_url.rpartition(":")[2])):
        engine = LocalEngine(hub, tmp_path, timeouts, endpoint=f"http://{HOST}:{port}")
        changes = {"size_bytes": None, "sha256": None} if is_odd else {}
        end = engine.fetch(REPO, NAME, **changes)
        engine.close()

    assert end.files[0].size_bytes == 300_000


def test_if_no_address_answers_the_first_reason_is_reported(port) -> None:
    with pytest.raises(ConnectionRefusedError):
        dialing.connect("127.0.0.1", free_port(), 5)


def test_the_timeout_applies_to_all_addresses_together(monkeypatch) -> None:
    dual_stack(monkeypatch, HOST)
    began_s = time.monotonic()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), Blackhole(port), pytest.raises(TimeoutError):
            dialing.connect(HOST, port, 0.6)

    assert time.monotonic() - began_s >= 0.6
