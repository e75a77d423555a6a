"""`ms://owner/name`: a repository of ModelScope, on the same engine and with the same promises, against an embedded server."""

from collections.abc import Callable, Iterator

import pytest

from gglib_nb import (
    DownloadManager,
    GglibError,
    HubError,
    HubUnavailableError,
    InvalidConfigError,
    InvalidRepoIdError,
    NetworkError,
    RepoNotFoundError,
    RequestError,
)
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.references import parse_pasted
from gglib_nb.hub import modelscope
from gglib_nb.manager.followups import waiting_for_access
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verb import complete
from gglib_nb.notebook.verbs import parse
from tests.support.faulty_hub import FaultyHub, Status, Then
from tests.support.hub import make_files, make_repository, small_gguf
from tests.support.models import sha256_of
from tests.support.modelscope import EmbeddedModelScope

NAME, USUAL, OTHER = "demo/scope-GGUF", "scope-Q4_K_M.gguf", "scope-Q8_0.gguf"
REPO, ID = f"ms://{NAME}", f"ms--{NAME}:Q4_K_M"
FILES = {USUAL: 300_000, OTHER: 500_000, "README.md": b"# scope\n"}


@pytest.fixture
def scope() -> Iterator[EmbeddedModelScope]:
    with EmbeddedModelScope([make_repository(NAME, FILES)]) as scope:
        yield scope


@pytest.fixture
def manager(make_manager: Callable[..., DownloadManager], scope: EmbeddedModelScope) -> DownloadManager:
    return make_manager(ms_endpoint=scope.url, hf_token="hf_demo_granted")


def run(manager: DownloadManager, line: str) -> str:
    return parse(line).run(Session(lambda: manager)).text


def test_a_model_is_downloaded_verified_and_named_without_the_hub_or_its_token(
    manager: DownloadManager, scope: EmbeddedModelScope, hub: FaultyHub
) -> None:
    path = manager.sync.download(REPO)

    assert path == manager.config.models_directory / "ms--demo" / "scope-GGUF" / USUAL
    assert sha256_of(path) == small_gguf(USUAL, 300_000).sha256
    [row] = manager.sync.models()
    assert (row.id, row.state) == (ID, "verified")
    assert [one for one in scope.requests if "authorization" in {name.lower() for name in one.headers}] == []
    assert hub.requests == ()
    assert manager.sync.verify(ID).is_right


def test_the_verbs_take_the_prefix(manager: DownloadManager, scope: EmbeddedModelScope) -> None:
    assert "Q8_0" in run(manager, f"plan {REPO}")
    assert "llama" in run(manager, f"inspect {REPO}:Q4_K_M")
    assert f"Queued {ID}" in run(manager, f"queue {REPO}:Q4_K_M")
    manager.sync.wait(ID)

    assert USUAL in run(manager, f"path {REPO}")
    assert manager.sync.plan(REPO).page_url == f"{scope.url}/models/{NAME}"


def test_it_does_not_collide_with_the_hubs_repository_of_that_name(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.add_repository(make_repository(NAME, {USUAL: 310_000}))

    assert manager.sync.download(REPO, "Q4_K_M") != manager.sync.download(NAME, "Q4_K_M")
    assert len(manager.sync.models()) == 2


def test_a_restart_resumes_it(make_manager: Callable[..., DownloadManager], scope: EmbeddedModelScope) -> None:
    first = make_manager(ms_endpoint=scope.url)
    scope.set_speed(bytes_per_second=0)
    first.sync.queue_smart(REPO, "Q8_0")
    first.close()
    scope.set_speed()

    second = make_manager(ms_endpoint=scope.url)
    assert second.sync.download(REPO, "Q8_0").stat().st_size == 500_000


def test_it_is_updated(manager: DownloadManager, scope: EmbeddedModelScope) -> None:
    path = manager.sync.download(REPO, "Q4_K_M")
    scope.add_repository(make_repository(NAME, {**FILES, USUAL: 320_000}))

    assert [one.has_update for one in manager.sync.check_updates()] == [True]
    manager.sync.wait(manager.sync.update(ID).id)

    assert path.stat().st_size == 320_000


def test_a_damaged_file_is_repaired(manager: DownloadManager) -> None:
    path = manager.sync.download(REPO, "Q4_K_M")
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)

    assert not manager.sync.verify(ID).is_right
    manager.sync.wait(manager.sync.repair(ID).id)

    assert sha256_of(path) == small_gguf(USUAL, 300_000).sha256


def test_a_file_without_a_sha256_is_unverified(manager: DownloadManager, scope: EmbeddedModelScope) -> None:
    scope.without_sha256 = frozenset({USUAL})

    manager.sync.download(REPO, "Q4_K_M")

    assert [row.state for row in manager.sync.models()] == ["unverified"]
    assert "ModelScope gives no SHA-256" in run(manager, "status")
    assert "the Hub" not in run(manager, f"verify {ID}")


MANY = {f"part-{number}.txt": b"x" for number in range(210)} | {USUAL: 1_000}


@pytest.fixture
def full_scope() -> Iterator[EmbeddedModelScope]:
    with EmbeddedModelScope([make_repository(NAME, MANY)]) as scope:
        yield scope


@pytest.mark.parametrize(
    "change",
    [{}, {"has_pages": False}, {"repeats": 1}, {"largest_page": 50}, {"names_commit": False}, {"states_count": False}],
    ids=["pages", "always all", "entries repeated", "shorter pages", "no commit", "no count"],
)
def test_every_page_of_a_listing_is_read(
    make_manager: Callable[..., DownloadManager], full_scope: EmbeddedModelScope, change: dict[str, object]
) -> None:
    vars(full_scope).update(change)

    plan = make_manager(ms_endpoint=full_scope.url).sync.plan(REPO)

    assert [variant.key for variant in plan.variants] == ["Q4_K_M"]


@pytest.mark.parametrize(("states_count", "pages"), [(True, "123"), (False, "1234")])
def test_no_page_after_the_last_is_requested_if_their_number_is_stated(
    make_manager: Callable[..., DownloadManager], full_scope: EmbeddedModelScope, states_count: bool, pages: str
) -> None:
    full_scope.states_count = states_count

    make_manager(ms_endpoint=full_scope.url).sync.plan(REPO)

    asked = [one.query["PageNumber"][0] for one in full_scope.requests if one.path.endswith("/repo/files")]
    assert asked == list(pages)


def test_a_listing_is_of_one_commit_though_the_branch_moves_between_two_pages(
    make_manager: Callable[..., DownloadManager], full_scope: EmbeddedModelScope
) -> None:
    move = Then(lambda: full_scope.move_branch(NAME, "main", make_files({OTHER: 2_000})))
    full_scope.faults.add(move, path="*/repo/files")

    plan = make_manager(ms_endpoint=full_scope.url).sync.plan(REPO)

    assert [variant.key for variant in plan.variants] == ["Q4_K_M"]


def test_a_listing_that_does_not_end_is_refused(
    make_manager: Callable[..., DownloadManager], full_scope: EmbeddedModelScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelscope, "_MOST_PAGES", 2)

    with pytest.raises(HubError, match=f"^{NAME} has more than 200 files and folders, too many to list.$"):
        make_manager(ms_endpoint=full_scope.url).sync.plan(REPO)


def test_an_unknown_repository_or_revision_is_named(manager: DownloadManager) -> None:
    with pytest.raises(RepoNotFoundError, match="There is no public repository demo/nothing at "):
        manager.sync.plan("ms://demo/nothing")
    with pytest.raises(RepoNotFoundError, match="with a revision 'v9'"):
        manager.sync.plan(REPO, revision="v9")


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Status(503)], ids=["down"])
def test_a_failing_server_is_named(manager: DownloadManager, scope: EmbeddedModelScope, fault: Status) -> None:
    scope.faults.add(fault, times=None)

    with pytest.raises(HubUnavailableError, match=scope.url):
        manager.sync.plan(REPO)


def test_references_of_all_forms_name_it() -> None:
    wanted = DownloadId(f"ms--{NAME}", "Q4_K_M", "v1")

    assert parse_pasted(f"ms://{NAME}@v1:Q4_K_M") == wanted
    assert parse_pasted(str(wanted)) == wanted
    assert parse_pasted(f"https://www.modelscope.cn/models/{NAME}") == DownloadId(f"ms--{NAME}")
    for hostile in ("ms://../x", "ms://a", "ms--ms--a/b", "ms://a--b/c"):
        with pytest.raises(InvalidRepoIdError):
            parse_pasted(hostile)


@pytest.mark.parametrize(
    "rest", ["summary", "files", "file/view/master/scope-Q4_K_M.gguf", "resolve/v1/a/scope-Q4_K_M.gguf", "?tab=files"]
)
@pytest.mark.parametrize("host", ["https://modelscope.cn", "https://www.modelscope.cn", "modelscope.cn"])
def test_an_address_of_any_of_its_pages_names_it(host: str, rest: str) -> None:
    separator = "" if rest.startswith("?") else "/"
    file, revision = {
        "file": (USUAL, None),
        "resolve": (f"a/{USUAL}", "v1"),
    }.get(rest.partition("/")[0], (None, None))

    assert parse_pasted(f"{host}/models/{NAME}{separator}{rest}") == DownloadId(f"ms--{NAME}", file, revision)


def test_a_revision_with_slashes_is_kept() -> None:
    assert parse_pasted(f"ms://{NAME}@refs/x:Q4_K_M") == DownloadId(f"ms--{NAME}", "Q4_K_M", "refs/x")


def test_a_reference_with_the_prefix_is_completed() -> None:
    ids = [DownloadId("ms--qwen/x-GGUF", "Q4_K_M"), DownloadId("qwen/y-GGUF", "Q4_K_M")]
    session = Session(lambda: pytest.fail("a manager was created"), seen=dict.fromkeys(ids))

    assert complete(["inspect", "ms://qwe"], session) == ["ms--qwen/x-GGUF:Q4_K_M"]


def test_a_refused_file_names_no_token_and_is_not_retried(manager: DownloadManager, scope: EmbeddedModelScope) -> None:
    scope.faults.add(Status(403), path=f"*{USUAL}", times=None)

    with pytest.raises(GglibError, match="403") as caught:
        manager.sync.download(REPO, "Q4_K_M")

    assert "token" not in str(caught.value).lower()
    assert "log in" not in str(caught.value)
    assert [item.error is not None for item in manager.snapshot.recent_failures] == [True]
    assert waiting_for_access(manager.snapshot) == []


@pytest.mark.parametrize(
    "change",
    [
        {"Revision": "master/../.."},
        {"Revision": ""},
        {"Revision": None},
        {"Path": None},
        {"Sha256": 7},
        {"Path": 7},
        {"CommittedDate": 1e999},
    ],
    ids=str,
)
def test_a_hostile_listing_is_refused(
    manager: DownloadManager, scope: EmbeddedModelScope, change: dict[str, object]
) -> None:
    scope.changes = change

    with pytest.raises(HubUnavailableError, match=r"ModelScope's answer cannot .* check GGLIB_MODELSCOPE_ENDPOINT"):
        manager.sync.plan(REPO)


@pytest.mark.slow
def test_an_unreachable_server_names_its_setting(make_manager: Callable[..., DownloadManager]) -> None:
    with pytest.raises(NetworkError, match="check the connection, GGLIB_MODELSCOPE_ENDPOINT and the proxy"):
        make_manager(ms_endpoint="http://127.0.0.1:9").sync.plan(REPO)


def test_an_invalid_address_names_its_setting(make_manager: Callable[..., DownloadManager]) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        make_manager(ms_endpoint="modelscope.cn")

    said = str(caught.value)
    assert said.startswith("ms_endpoint must be an address such as https://www.modelscope.cn, ")
    assert "GGLIB_MODELSCOPE_ENDPOINT sets it" in said


def test_a_path_outside_of_the_folder_is_refused(manager: DownloadManager, scope: EmbeddedModelScope) -> None:
    scope.changes = {"Path": "../../../outside-Q4_K_M.gguf"}

    with pytest.raises(RequestError, match="cannot be stored here"):
        manager.sync.download(REPO)
