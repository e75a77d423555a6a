"""The embedded hub from a user's view: addresses, log, speed, folders, and the command."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gglib_nb.demo import (
    GRANTED_TOKEN,
    DemoFile,
    DemoRepository,
    generated_repositories,
    noise_content,
    repositories_from_folder,
)
from gglib_nb.demo.__main__ import main
from tests.support.faulty_hub import FaultyHub, edge_lottery
from tests.support.faulty_hub.process import HubProcess
from tests.support.hub import ask, make_repository, signed_url

SMALL, MODEL = "demo/small-GGUF", "small-Q4_K_M.gguf"


def test_a_file_is_downloaded_through_its_signed_url(hub: FaultyHub) -> None:
    redirect = ask(f"{hub.url}/{SMALL}/resolve/main/{MODEL}")
    body = ask(redirect.headers["Location"], headers={"Range": "bytes=0-299999"}).body

    assert (redirect.status, redirect.headers["X-Linked-Size"]) == (302, "300000")
    assert redirect.headers["X-Linked-ETag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    assert redirect.headers["Location"].startswith(f"{hub.cdn_url}/")
    assert hub.ranges(MODEL) == [(0, 299_999)]
    assert hub.bytes_sent() == hub.bytes_sent(MODEL) == sum(sent for _, sent in hub.flow(MODEL)) == 300_000


def test_a_connection_is_kept_and_reused(hub: FaultyHub) -> None:
    request = f"GET /api/models/{SMALL} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

    with socket.create_connection(("127.0.0.1", int(hub.url.rpartition(":")[2])), timeout=5) as client:
        client.sendall(request + request)
        records = hub.wait_for(lambda records: len(records) == 2)

    assert records[0].connection_id == records[1].connection_id


def test_the_log_contains_no_token(hub: FaultyHub, tmp_path: Path) -> None:
    log_file = tmp_path / "log.jsonl"
    with FaultyHub(hub.repositories.values(), log_file=log_file) as logged:
        ask(f"{logged.url}/api/whoami-v2", headers={"Authorization": f"Bearer {GRANTED_TOKEN}"})
        records = logged.wait_for(lambda records: records[-1].ended_s is not None)

    assert records[0].headers["authorization"] == "***"
    assert GRANTED_TOKEN not in log_file.read_text()


def test_the_log_file_records_requests_and_data_flow(small_repositories: list[DemoRepository], tmp_path: Path) -> None:
    log_file = tmp_path / "log.jsonl"
    with FaultyHub(small_repositories, log_file=log_file) as hub:
        ask(signed_url(hub, SMALL, MODEL))
        hub.wait_for(lambda records: records[-1].is_whole)

    lines = [json.loads(line) for line in log_file.read_text().splitlines()]
    assert Counter(line["event"] for line in lines if line["event"] != "flow") == {"started": 2, "ended": 2}
    assert sum(line["bytes"][MODEL] for line in lines if line["event"] == "flow") == 300_000


def test_a_timed_out_wait_reports_the_last_requests(hub: FaultyHub) -> None:
    ask(f"{hub.url}/api/models/{SMALL}")

    with pytest.raises(TimeoutError, match=r"GET /api/models/demo/small-GGUF 200"):
        hub.wait_for(lambda records: len(records) == 2, timeout_s=0.01)


def test_sixteen_connections_share_one_limit(make_hub: Callable[..., FaultyHub]) -> None:
    hub = make_hub([make_repository("demo/a-GGUF", {"a.gguf": 1_600_000})], bytes_per_second=8_000_000)
    url = signed_url(hub, "demo/a-GGUF", "a.gguf")
    started = time.monotonic()

    with ThreadPoolExecutor(16) as pool:
        ranges = [f"bytes={first}-{first + 99_999}" for first in range(0, 1_600_000, 100_000)]
        sizes = list(pool.map(lambda span: len(ask(url, headers={"Range": span}).body), ranges))

    assert sizes == [100_000] * 16
    assert time.monotonic() - started >= 0.15


def test_each_connection_has_its_own_limit(make_hub: Callable[..., FaultyHub]) -> None:
    hub = make_hub([make_repository("demo/a-GGUF", {"a.gguf": 400_000})], per_connection=400_000)
    url = signed_url(hub, "demo/a-GGUF", "a.gguf")
    started = time.monotonic()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: ask(url), range(16)))

    assert 0.8 <= time.monotonic() - started <= 15  # shared, it would take 16 s


def test_a_held_hub_sends_nothing_until_released(make_hub: Callable[..., FaultyHub]) -> None:
    hub = make_hub([make_repository("demo/a-GGUF", {"a.gguf": 400_000})], bytes_per_second=0)
    url = signed_url(hub, "demo/a-GGUF", "a.gguf")
    sizes: list[int] = []
    reader = threading.Thread(target=lambda: sizes.append(len(ask(url).body)))

    reader.start()
    hub.wait_for(lambda records: records[-1].status == 200)
    sent_while_held = hub.bytes_sent()
    hub.set_speed(None)
    reader.join(30)

    assert (sent_while_held, sizes) == (0, [400_000])


def test_the_edge_lottery_is_deterministic_for_a_seed() -> None:
    first, second = (edge_lottery([(0.7, 8.7e6), (0.3, 69e6)], seed=4) for _ in range(2))

    draws = [first() for _ in range(50)]

    assert draws == [second() for _ in range(50)]
    assert set(draws) == {8.7e6, 69e6}


def test_a_new_connection_gets_its_own_speed(hub: FaultyHub) -> None:
    url = signed_url(hub, SMALL, MODEL)
    hub.set_edge_lottery(edge_lottery([(1, 2_000_000)]))
    started = time.monotonic()

    ask(url)

    assert time.monotonic() - started >= 0.1


def test_dropped_connections_are_cut_and_new_ones_accepted(hub: FaultyHub) -> None:
    with socket.create_connection(("127.0.0.1", int(hub.url.rpartition(":")[2])), timeout=5) as client:
        client.sendall(f"GET /api/models/{SMALL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        hub.wait_for(lambda records: len(records) == 1 and records[0].is_whole)
        hub.drop_connections()
        while client.recv(65536):
            pass

    assert ask(f"{hub.url}/api/models/{SMALL}").status == 200


def test_a_huge_file_is_served_at_any_offset(make_hub: Callable[..., FaultyHub]) -> None:
    huge = noise_content(40_000_000_000, "huge")
    huge.__dict__["sha256"] = "0" * 64  # hashing it would take half a minute
    hub = make_hub([DemoRepository(repo_id="demo/huge-GGUF", files=[DemoFile("huge.gguf", huge)])])
    url = signed_url(hub, "demo/huge-GGUF", "huge.gguf")

    answer = ask(url, headers={"Range": "bytes=39999999990-"})

    assert (answer.status, answer.body) == (206, bytes(huge.read(39_999_999_990, 10)))


def test_each_subfolder_is_a_repository(tmp_path: Path) -> None:
    for repo_id in ("one/a", "two/b"):
        (tmp_path / repo_id / "sub").mkdir(parents=True)
        (tmp_path / repo_id / "sub" / "m.gguf").write_bytes(b"GGUF")

    repositories = repositories_from_folder(tmp_path)

    assert [repository.repo_id for repository in repositories] == ["one/a", "two/b"]
    assert list(getattr(repositories[0].commit(), "files", {})) == ["sub/m.gguf"]


def test_a_folder_of_files_is_one_local_repository(shared_data: Path, make_hub: Callable[..., FaultyHub]) -> None:
    hub = make_hub(repositories_from_folder(shared_data / "gguf"))
    index = json.loads((shared_data / "gguf" / "INDEX.json").read_text())

    bodies = {entry["file"]: ask(signed_url(hub, "local/gguf", entry["file"])).body for entry in index}

    digests = {name: hashlib.sha256(body).hexdigest() for name, body in bodies.items()}
    assert digests == {entry["file"]: entry["sha256"] for entry in index}


def test_hidden_folders_are_not_served(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for name in ("m.gguf", ".gitattributes", ".git/config"):
        (tmp_path / name).write_bytes(b"x")

    [repository] = repositories_from_folder(tmp_path)

    assert sorted(getattr(repository.commit(), "files", {})) == [".gitattributes", "m.gguf"]


def test_the_generated_repositories_show_each_kind() -> None:
    repositories = {repository.repo_id: repository for repository in generated_repositories()}

    sizes = {
        repo_id: sum(file.size_bytes for file in getattr(repository.commit(), "files", {}).values()) // 1_000_000
        for repo_id, repository in repositories.items()
    }
    assert sizes == {
        "demo/tiny-llama-GGUF": 200,
        "demo/sharded-llama-GGUF": 94,
        "demo/vision-llama-GGUF": 56,
        "demo/gated-llama-GGUF": 29,
    }
    assert repositories["demo/gated-llama-GGUF"].gated == "manual"


def test_the_command_serves_a_folder_until_stopped(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.gguf").write_bytes(b"GGUF")
    command = [sys.executable, "-m", "gglib_nb.demo", "--folder", str(tmp_path / "models")]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        name, _, url = process.stdout.readline().strip().partition("=")
        answer = ask(f"{url}/api/models/local/models")
        os.kill(process.pid, signal.SIGTERM)
        status = process.wait(60)

    assert (name, answer.status, status) == ("HF_ENDPOINT", 200, 0)


def test_the_command_reports_in_one_line_why_it_cannot_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["--folder", str(tmp_path / "nothing")])

    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (1, 1)
    assert "is not a folder" in error


def test_another_process_changes_speed_and_faults_and_reads_the_log(tmp_path: Path) -> None:
    with HubProcess(tmp_path, "--speed", "0.001") as hub:
        hub.set_speed(None)
        number = hub.add_fault("Status", status=503, where={"origin": "hub", "times": None})
        url = f"{hub.url}/demo/tiny-llama-GGUF/resolve/main/tiny-llama-Q2_K.gguf"
        refused = ask(url).status
        hub.remove_fault(number)
        location = ask(url).headers["Location"]
        ask(location, headers={"Range": "bytes=5-9"})

        assert (refused, hub.ranges("tiny-llama-Q2_K.gguf"), hub.bytes_sent()) == (503, [(5, 9)], 5)
        with pytest.raises(RuntimeError, match="Nonsense"):
            hub.add_fault("Nonsense")
