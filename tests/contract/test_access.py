"""Gated repositories: which state of access applies, logging in, and what continues when access is granted."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import constants, get_token
from huggingface_hub.utils import get_stored_tokens
from msgspec.structs import replace

from gglib_nb import DownloadManager, DownloadRequest, GatedRepoError
from gglib_nb.demo import GRANTED_TOKEN
from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.stored import RestoredDownload, StoredLimits
from gglib_nb.errors import (
    InvalidConfigError,
    InvalidTokenError,
    ManagerClosedError,
    NetworkError,
    NotInQueueError,
    QueueFullError,
)
from gglib_nb.hub import login
from gglib_nb.hub.client import HubClient
from gglib_nb.manager import manager as managers
from gglib_nb.manager.followups import retry_granted, waiting_for_access
from gglib_nb.network.client import close_shared_client
from gglib_nb.notebook.session import Screen, Session
from gglib_nb.notebook.verbs import parse
from gglib_nb.queue import events as on
from gglib_nb.queue.machine import QueueMachine
from tests.support.certificates import Company
from tests.support.faulty_hub import (
    PENDING_TOKEN,
    PLAIN_TOKEN,
    REJECTED_TOKEN,
    CaptivePortal,
    Fault,
    FaultyHub,
    Status,
)
from tests.support.kernel import wait_until
from tests.support.odd_server import OddServer, answering, response
from tests.support.rights import as_ordinary_user
from tests.support.snapshots import download, snapshot

GATED = "demo/gated-GGUF"


@pytest.mark.parametrize(
    ("token", "state"),
    [(None, "login"), (PLAIN_TOKEN, "not requested"), (PENDING_TOKEN, "pending"), (REJECTED_TOKEN, "rejected")],
)
def test_a_gated_repository_reports_the_state_of_access(
    make_manager: Callable[..., DownloadManager], token: str | None, state: str
) -> None:
    manager = make_manager(hf_token=token)

    with pytest.raises(GatedRepoError) as refusal:
        manager.sync.queue_smart(GATED)

    assert refusal.value.state == state
    assert refusal.value.accept_url.endswith(GATED)
    assert str(token) not in str(refusal.value)


def test_granted_access_allows_the_download(make_manager: Callable[..., DownloadManager]) -> None:
    assert make_manager(hf_token=GRANTED_TOKEN).sync.download(GATED).exists()


# Watching for access, with a queue and a hub controlled by the test


def failed(repo: str, error: Exception) -> object:
    return download(f"{repo}:Q4_K_M", DownloadStatus.FAILED, error=error, can_retry=True)


def gated(state: str) -> GatedRepoError:
    return GatedRepoError("Gated.", "", state)


def test_only_failures_that_access_would_fix_are_awaited() -> None:
    queue = snapshot(
        failed("o/pending", gated("pending")),
        failed("o/rejected", gated("rejected")),
        failed("o/token", InvalidTokenError("Expired.")),
        failed("o/line", NetworkError("Cut.")),
    )

    assert {id_.repo_id for id_ in waiting_for_access(queue)} == {"o/pending", "o/token"}


def test_downloads_continue_once_access_is_granted(
    make_manager: Callable[..., DownloadManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([gated("pending"), RuntimeError("can't start new thread"), None, gated("pending"), None])

    def check(_hub: HubClient, _repo_id: object) -> None:
        if (answer := next(answers)) is not None:
            raise answer

    monkeypatch.setattr(managers, "_ASK_EVERY_S", 0.01)
    monkeypatch.setattr(HubClient, "check_access", check)
    manager = make_manager()
    queue = manager._parts.queue
    for label in ("Q4_K_M", "Q8_0"):
        manager.sync.queue_download(DownloadRequest("demo/small-GGUF", label))
    waiting = queue.ask(QueueMachine.stored).result().downloads
    manager.sync.cancel_all()
    manager.sync.clear_ended("cancelled")

    for number, one in enumerate(waiting, 1):  # the second one fails while no other waits
        refused = replace(one, status=DownloadStatus.FAILED, error=gated("pending"))
        restored = RestoredDownload(refused, (0,) * len(one.plan.files))
        queue.post(on.DownloadsRestored((restored,), StoredLimits(), starts=False)).result()
        wait_until(lambda number=number: len(manager.snapshot.recent_completed) == number, 60, "the download")

    assert list(answers) == []


def test_a_refused_retry_is_reported_once_the_others_are_retried() -> None:
    queue = snapshot(failed("o/a", gated("pending")), failed("o/b", gated("pending")), failed("o/c", gated("pending")))
    retried: list[str] = []

    def check(repo_id: str) -> None:
        if repo_id == "o/a":
            raise gated("pending")

    def retry(id_: DownloadId) -> None:
        if id_.repo_id == "o/b":
            raise QueueFullError("The queue is full.", 1)
        retried.append(id_.repo_id)

    with pytest.raises(QueueFullError):
        retry_granted(queue, check, retry)
    assert retried == ["o/c"]


def test_a_download_that_was_retried_meanwhile_is_no_error_of_a_retry() -> None:
    def retry(id_: DownloadId) -> None:
        raise NotInQueueError(f"{id_}: only a failed download can be retried.")

    assert retry_granted(snapshot(failed("o/a", gated("pending"))), lambda _repo_id: None, retry) == []


# Logging in: huggingface_hub reads HF_HOME when it is imported, so this needs a separate process.

LOG_IN = """
import sys
from gglib_nb.hub.client import HubClient
from gglib_nb.hub.login import log_in
from gglib_nb.errors import GglibError
token = sys.stdin.readline().strip()
try:
    log_in(HubClient(sys.argv[1]), token)
except GglibError as error:
    print(type(error).__name__, error)
else:
    import huggingface_hub
    print("ok", huggingface_hub.get_token() == token)
"""


def log_in(hub: FaultyHub, home: Path, token: str) -> str:
    names = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(home), "HOME": str(home)}
    environment = {
        name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_TOKEN_PATH")
    } | names
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOG_IN, hub.url],
        input=token,
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    return found.stdout + found.stderr


def test_a_login_is_checked_with_the_hub_and_stored(hub: FaultyHub, tmp_path: Path) -> None:
    assert "ok True" in log_in(hub, tmp_path, GRANTED_TOKEN)


def test_a_login_says_what_to_do_when_huggingface_hub_stores_tokens_differently(
    hub: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub._login", None)

    with pytest.raises(InvalidConfigError, match="Run hf auth login in a terminal"):
        login.log_in(HubClient(hub.url), GRANTED_TOKEN)
    assert hub.requests == ()


def test_a_rejected_token_is_neither_stored_nor_shown(hub: FaultyHub, tmp_path: Path) -> None:
    said = log_in(hub, tmp_path, "hf_wrongwrongwrong")

    assert said.startswith("InvalidTokenError")
    assert "wrongwrong" not in said
    assert not (tmp_path / "token").exists()


def test_a_login_uses_the_manager_s_hub_and_the_company_s_certificates(
    make_hub: Callable[..., FaultyHub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = Company(tmp_path)
    hub = make_hub([], tls=company.server())

    assert log_in(hub, tmp_path, GRANTED_TOKEN).startswith("CertificateError The certificate of 127.0.0.1:")

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(company.bundle))
    assert "ok True" in log_in(hub, tmp_path, GRANTED_TOKEN)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Status(401), "InvalidTokenError"),
        (Status(403), "InvalidTokenError"),
        (Status(404), "InvalidConfigError"),
        (Status(503), "HubUnavailableError"),
        (Status(429, headers={"Retry-After": "900"}), "RateLimitedError"),
        (CaptivePortal(), "HubUnavailableError"),
    ],
    ids=str,
)
def test_a_token_that_cannot_be_checked_is_not_stored(hub: FaultyHub, tmp_path: Path, fault: Fault, kind: str) -> None:
    hub.faults.add(fault, path="/api/whoami-v2", times=None)

    said = log_in(hub, tmp_path, GRANTED_TOKEN)

    assert said.startswith(f"{kind} ")
    assert "search" not in said
    assert "Traceback" not in said
    assert not (tmp_path / "token").exists()


def test_a_login_that_cannot_be_stored_says_so(hub: FaultyHub, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)

    said = as_ordinary_user(lambda: log_in(hub, tmp_path, GRANTED_TOKEN))

    tmp_path.chmod(0o755)
    assert said.startswith("InvalidConfigError The Hub accepts the token, but it cannot be stored")
    assert "HF_HOME" in said
    assert GRANTED_TOKEN not in said


@pytest.mark.parametrize("name", ["DEFAULT", "a\nb = c\n[mine]", "a]b", "  ", "\ud800", "#\u2028;"])
def test_a_token_of_any_name_is_stored_beside_the_others(monkeypatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "stored_tokens"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    accounts = [{"name": "me", "auth": {"accessToken": {"displayName": one}}} for one in ("mine", name)]
    server: list[OddServer] = []
    answers = [answering(server, response(body=json.dumps(account).encode())) for account in accounts]

    with OddServer(*answers) as one:
        server.append(one)
        login.log_in(HubClient(one.url), "hf_first")
        close_shared_client()
        login.log_in(HubClient(one.url), "hf_second")

    assert sorted(get_stored_tokens().values()) == ["hf_first", "hf_second"]
    assert get_token() == "hf_second"


def test_closing_the_manager_ends_a_login_in_progress(hub: FaultyHub) -> None:
    hub.faults.add(Status(429, headers={"Retry-After": "5"}), path="/api/whoami-v2", times=None)
    client = HubClient(hub.url)

    with ThreadPoolExecutor(1) as pool:
        logging_in = pool.submit(login.log_in, client, GRANTED_TOKEN)
        hub.wait_for(lambda requests: any(request.ended_s for request in requests))
        client.close()
        with pytest.raises(ManagerClosedError):
            logging_in.result(timeout=60)


class Typing(Screen):
    """A terminal whose user types a text."""

    def __init__(self, text: str) -> None:
        self._text = text

    @property
    def can_ask(self) -> bool:
        return True

    def ask_secret(self, question: str) -> str:
        return self._text


def test_the_verb_neither_shows_nor_stores_the_token(manager: DownloadManager, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr("gglib_nb.manager.model_operations.log_in", lambda _hub, token: given.append(token))
    session = Session(lambda: manager, Typing("hf_secretsecret"))

    answer = parse("login").run(session)

    assert given == ["hf_secretsecret"]
    assert "secret" not in answer.text
    assert "secret" not in repr(vars(session))


def test_a_login_says_that_the_kernel_uses_another_token(
    manager: DownloadManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gglib_nb.manager.model_operations.log_in", lambda _hub, _token: None)
    monkeypatch.setenv("HF_TOKEN", "hf_otherother")

    with pytest.raises(InvalidConfigError, match="HF_TOKEN") as caught:
        parse("login").run(Session(lambda: manager, Typing("hf_secretsecret")))

    assert "secret" not in str(caught.value)
    assert "otherother" not in str(caught.value)


def test_the_verb_without_a_user_or_a_token_changes_nothing(manager: DownloadManager) -> None:
    assert parse("login").run(Session(lambda: manager)).text
    assert parse("login").run(Session(lambda: manager, Typing("  "))).text
