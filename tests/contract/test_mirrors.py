"""A list of mirrors: what the hub cannot provide is requested from the next one, without the token, and digests are compared."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gglib_nb import DownloadManager, GatedRepoError, GglibError, InvalidConfigError, RepoNotFoundError
from gglib_nb.demo import DemoRepository
from gglib_nb.hub.client import HubClient
from gglib_nb.hub.transport import RetryPolicy
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verbs import parse
from tests.support.certificates import Company
from tests.support.faulty_hub import FaultyHub, Status
from tests.support.hub import make_repository, small_gguf
from tests.support.models import sha256_of

REPO, NAME = "demo/mirrored-GGUF", "mirrored-Q4_K_M.gguf"
GATED = "demo/gated-GGUF"
TOKEN = "hf_demo_granted"


def repository(seed: str = "", **options: object) -> DemoRepository:
    return make_repository(REPO, {NAME: small_gguf(NAME, 400_000, seed or NAME)}, **options)


@pytest.fixture
def main(make_hub: Callable[..., FaultyHub]) -> FaultyHub:
    return make_hub()


@pytest.fixture
def mirror(make_hub: Callable[..., FaultyHub]) -> FaultyHub:
    return make_hub([repository()])


@pytest.fixture
def manager(make_manager: Callable[..., DownloadManager], main: FaultyHub, mirror: FaultyHub) -> DownloadManager:
    return make_manager(endpoint=main.url, mirrors=(mirror.url,), hf_token=TOKEN)


def is_right(path: Path) -> bool:
    content = small_gguf(NAME, 400_000, NAME)
    return sha256_of(path) == content.sha256


def host_of(hub: FaultyHub) -> str:
    return hub.url.partition("://")[2]


def shown(manager: DownloadManager) -> str:
    return parse("status").run(Session(lambda: manager)).text


def tokens_sent_to(hub: FaultyHub) -> list[str]:
    return [value for one in hub.requests for name, value in one.headers.items() if name.lower() == "authorization"]


def test_a_repository_missing_on_the_hub_is_downloaded_from_the_mirror(
    manager: DownloadManager, mirror: FaultyHub
) -> None:
    assert [variant.key for variant in manager.sync.plan(REPO).variants] == ["Q4_K_M"]

    assert is_right(manager.sync.download(REPO))
    assert tokens_sent_to(mirror) == []


def test_files_that_the_hub_does_not_send_are_downloaded_from_the_mirror(
    manager: DownloadManager, main: FaultyHub, mirror: FaultyHub
) -> None:
    main.add_repository(repository())
    main.faults.add(Status(404), path=f"*{NAME}", times=None)

    assert is_right(manager.sync.download(REPO))
    assert any(one.origin == "cdn" for one in mirror.requests)
    assert tokens_sent_to(mirror) == []
    assert tokens_sent_to(main) != []
    assert f"from {host_of(mirror)}" in shown(manager)


def test_a_failing_storage_is_replaced_by_the_mirrors(
    manager: DownloadManager, main: FaultyHub, mirror: FaultyHub
) -> None:
    main.add_repository(repository())
    main.faults.add(Status(503), origin="cdn", times=None)

    assert is_right(manager.sync.download(REPO))
    assert any(one.origin == "cdn" for one in mirror.requests)


def test_a_hub_that_is_down_is_replaced_by_the_mirror(
    make_manager: Callable[..., DownloadManager], mirror: FaultyHub
) -> None:
    manager = make_manager(endpoint="http://127.0.0.1:9", mirrors=(mirror.url,))

    assert is_right(manager.sync.download(REPO))


def test_a_hub_that_a_company_s_proxy_replaces_is_replaced_by_the_mirror(
    make_manager: Callable[..., DownloadManager], make_hub: Callable[..., FaultyHub], mirror: FaultyHub, tmp_path: Path
) -> None:
    main = make_hub([repository()], tls=Company(tmp_path).server())
    manager = make_manager(endpoint=main.url, mirrors=(mirror.url,))

    assert is_right(manager.sync.download(REPO))
    assert [row.repo_id for row in manager.sync.search("mirrored")] == [REPO]


def test_while_the_hub_works_the_mirror_gets_no_request(
    manager: DownloadManager, main: FaultyHub, mirror: FaultyHub
) -> None:
    main.add_repository(repository())

    assert is_right(manager.sync.download(REPO))
    assert mirror.requests == ()
    assert host_of(mirror) not in shown(manager)


@pytest.mark.slow
@pytest.mark.parametrize("is_down", [True, False], ids=["unreachable", "failing"])
def test_search_planning_and_access_use_the_mirror_if_the_hub_cannot_answer(
    make_manager: Callable[..., DownloadManager], main: FaultyHub, make_hub: Callable[..., FaultyHub], *, is_down: bool
) -> None:
    mirror = make_hub([repository(), make_repository(GATED, {"gated-Q4_K_M.gguf": 50_000}, gated="manual")])
    main.faults.add(Status(503), times=None)
    endpoint = "http://127.0.0.1:9" if is_down else main.url
    manager = make_manager(endpoint=endpoint, mirrors=(mirror.url,), hf_token=TOKEN)

    assert REPO in [row.repo_id for row in manager.sync.search("mirrored")]
    assert manager.sync.plan(REPO).has_access
    with pytest.raises(GglibError):
        manager.sync.download(GATED)
    assert is_right(manager.sync.download(REPO))
    assert tokens_sent_to(mirror) == []


def test_a_search_that_the_hub_answers_is_not_sent_to_the_mirror(manager: DownloadManager, mirror: FaultyHub) -> None:
    assert manager.sync.search("nothing of this name") == []
    assert mirror.requests == ()


def test_a_mirror_with_other_content_is_not_used(
    make_manager: Callable[..., DownloadManager], make_hub: Callable[..., FaultyHub], main: FaultyHub
) -> None:
    other = make_hub([repository("other content")])
    main.add_repository(repository())
    main.faults.add(Status(404), path=f"*{NAME}", times=None)
    manager = make_manager(endpoint=main.url, mirrors=(other.url,))

    with pytest.raises(GglibError):
        manager.sync.download(REPO)

    assert not list(manager.config.models_directory.rglob("*.gguf"))
    assert not any(one.origin == "cdn" for one in other.requests)


def test_a_gated_repository_is_not_downloaded_from_a_mirror(
    make_manager: Callable[..., DownloadManager], main: FaultyHub, mirror: FaultyHub
) -> None:
    main.add_repository(repository(gated="manual"))
    manager = make_manager(endpoint=main.url, mirrors=(mirror.url,))

    with pytest.raises(GatedRepoError):
        manager.sync.download(REPO)

    assert mirror.requests == ()


@pytest.mark.parametrize("status", [429, 503, 404])
@pytest.mark.parametrize("mirror_status", [200, 404])
def test_no_mirror_grants_access_in_the_place_of_the_hub(
    main: FaultyHub, mirror: FaultyHub, status: int, mirror_status: int
) -> None:
    code = "RepoNotFound" if status == 404 else None
    main.faults.add(Status(status, error_code=code), path="*/auth-check", times=None)
    if mirror_status != 200:
        mirror.faults.add(Status(mirror_status), path="*/auth-check", times=None)
    main.add_repository(repository(gated="manual"))
    client = HubClient(main.url, TOKEN, mirrors=(mirror.url,), retry_policy=RetryPolicy(tries=1))

    with pytest.raises(GglibError, match=main.url):
        client.check_access(REPO)
    assert mirror.requests == ()


def test_a_repository_missing_everywhere_raises_the_hubs_error(manager: DownloadManager, main: FaultyHub) -> None:
    with pytest.raises(RepoNotFoundError, match=main.url):
        manager.sync.download("demo/nothing")


def test_mirrors_are_set_by_a_variable_and_shown(
    make_manager: Callable[..., DownloadManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGLIB_MIRRORS", "https://a.example/ https://b.example")
    manager = make_manager()

    assert manager.config.mirrors == ("https://a.example", "https://b.example")
    assert "https://a.example https://b.example" in parse("config mirrors").run(Session(lambda: manager)).text


@pytest.mark.parametrize("mirrors", ["https://a.example", ("ftp://a.example",), ("https://user:word@a.example",), 7])
def test_an_invalid_list_of_addresses_is_refused(make_manager: Callable[..., DownloadManager], mirrors: object) -> None:
    with pytest.raises(InvalidConfigError) as refusal:
        make_manager(mirrors=mirrors)

    assert "word" not in str(refusal.value)
