"""With a real mirror (olah): listing, planning and downloading work as with the hub, with a cold or warm cache and offline."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gglib_nb import DownloadManager, DownloadManagerConfig
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import GatedRepoError, GglibError, HubError, RepoNotFoundError, RevisionNotFoundError
from tests.support.engine import LocalEngine, planned
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.olah import Olah
from tests.support.sentences import check_sentence

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL, SPLIT, GATED = "demo/small-GGUF", "demo/split-GGUF", "demo/gated-GGUF"
NAME = "small-Q4_K_M.gguf"


@pytest.fixture(scope="module")
def hub() -> Iterator[FaultyHub]:
    shards = {f"Q4_K_M/split-Q4_K_M-{number:05}-of-00003.gguf": 2_000_000 + number for number in (1, 2, 3)}
    repositories = [
        make_repository(SMALL, {NAME: 20_000_000, "small-Q8_0.gguf": 500_000, "README.md": b"# small\n"}),
        make_repository(SPLIT, shards),
        make_repository(GATED, {"gated-Q4_K_M.gguf": 50_000}, gated="manual"),
    ]
    with FaultyHub(repositories) as hub:
        yield hub


@pytest.fixture(scope="module")
def cache(hub: FaultyHub, tmp_path_factory) -> Path:
    """The folder of a mirror with everything in its cache."""
    folder = tmp_path_factory.mktemp("olah")
    with Olah(folder, hub.url) as mirror:
        check_everything_comes(mirror, folder / "cold")
    return folder


@pytest.fixture(scope="module", params=["warm", "offline"])
def mirror(request, hub: FaultyHub, cache: Path) -> Iterator[Olah]:
    with Olah(cache, hub.url, is_offline=request.param == "offline") as mirror:
        yield mirror


@pytest.fixture
def manager_of(tmp_path: Path) -> Iterator[Callable[[Olah], DownloadManager]]:
    made = []

    def make(mirror: Olah) -> DownloadManager:
        made.append(manager(mirror, tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.sync.close()


def manager(mirror: Olah, folder: Path) -> DownloadManager:
    config = DownloadManagerConfig(
        models_directory=folder / "models",
        state_directory=folder / "state",
        hub_cache=folder / "cache",
        endpoint=mirror.url,
    )
    return DownloadManager(config)


def check_everything_comes(mirror: Olah, folder: Path) -> None:
    one = manager(mirror, folder)
    try:
        assert {variant.key for variant in one.sync.plan(SMALL).variants} == {"Q4_K_M", "Q8_0"}
        assert one.sync.download(SMALL, "Q4_K_M").stat().st_size == 20_000_000
        assert one.sync.download(SPLIT).name == "split-Q4_K_M-00001-of-00003.gguf"
        assert len(list((folder / "models").rglob("*.gguf"))) == 4
        assert list((folder / "models").rglob("*.part*")) == []
        for path in (folder / "models").rglob("*.gguf"):
            assert one.sync.models()
            assert path.stat().st_size in {20_000_000, 2_000_001, 2_000_002, 2_000_003}
    finally:
        one.sync.close()


def test_a_model_and_a_split_model_are_downloaded_and_verified(mirror, hub, tmp_path) -> None:
    sent_before = hub.bytes_sent()

    check_everything_comes(mirror, tmp_path)

    commit = hub.repositories[SMALL].commit("main")
    digest = hashlib.sha256((tmp_path / "models" / SMALL / NAME).read_bytes()).hexdigest()
    assert digest == commit.files[NAME].content.sha256
    assert hub.bytes_sent() == sent_before  # all of it came from the mirror's cache


def test_a_stopped_download_is_resumed(mirror, hub, tmp_path) -> None:
    engine = LocalEngine(hub, tmp_path, Timeouts(), endpoint=mirror.url, bandwidth_limit_bytes_per_second=4_000_000)
    files = planned(hub, SMALL, NAME, folder=tmp_path)
    attempt = engine.begin(SMALL, files=files)
    engine.log.wait_for_progress(attempt, lambda one: one.received_bytes > 1_000_000, timeout_s=60)
    engine.stop(attempt)
    engine.close()

    engine = LocalEngine(hub, tmp_path, Timeouts(), endpoint=mirror.url)
    end = engine.fetch(SMALL, files=files)
    engine.close()

    assert end.files[0].is_verified


@pytest.mark.parametrize(
    ("ask", "kind", "text"),
    [
        (lambda sync: sync.search("small"), HubError, "does not support search"),
        (lambda sync: sync.plan("demo/nope-GGUF"), RepoNotFoundError, "There is no repository demo/nope-GGUF"),
        (lambda sync: sync.download("demo/nope-GGUF"), RepoNotFoundError, "There is no repository demo/nope-GGUF"),
    ],
    ids=["search", "plan", "download"],
)
def test_a_refusal_of_the_mirror_names_the_failed_request(mirror, manager_of, ask, kind, text) -> None:
    with pytest.raises(kind, match=text) as caught:
        ask(manager_of(mirror).sync)

    check_sentence(str(caught.value))


def test_an_unknown_revision_is_reported(mirror, manager_of) -> None:
    with pytest.raises(GglibError) as caught:
        manager_of(mirror).sync.plan(SMALL, revision="nope")

    assert isinstance(caught.value, RevisionNotFoundError | RepoNotFoundError)
    check_sentence(str(caught.value))


def test_a_gated_repository_is_reported_as_gated(hub, cache, manager_of) -> None:
    with Olah(cache, hub.url) as mirror, pytest.raises(GatedRepoError) as caught:
        manager_of(mirror).sync.download(GATED)

    check_sentence(str(caught.value))
