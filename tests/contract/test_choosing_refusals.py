"""Downloads that are not possible are refused by name before queueing, with advice."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gglib_nb import (
    DownloadManager,
    DownloadRequest,
    GatedRepoError,
    GglibError,
    IncompleteShardSetError,
    NoGgufFilesError,
    RepoNotFoundError,
    RequestError,
    RevisionNotFoundError,
)
from gglib_nb.demo import GRANTED_TOKEN
from tests.support.faulty_hub import PLAIN_TOKEN, FaultyHub
from tests.support.hub import make_repository, small_gguf

GATED = "demo/gated-GGUF"
PRIVATE = "demo/private-GGUF"


@pytest.fixture(autouse=True)
def repositories(hub: FaultyHub) -> None:
    hub.add_repository(make_repository("demo/empty", {"README.md": b"# nothing\n"}))
    hub.add_repository(make_repository("demo/parts", {"mmproj-F16.gguf": 1_000, "m.imatrix": 1_000}))
    hub.add_repository(
        make_repository(
            "demo/broken-GGUF",
            {f"m-Q8_0-{number:05}-of-00004.gguf": 10_000 for number in (1, 4)} | {"m-Q2_K.gguf": 10_000},
        )
    )
    hub.add_repository(make_repository(PRIVATE, {"m-Q4_K_M.gguf": 10_000}, private=True))
    hub.add_repository(make_repository("demo/auto-GGUF", {"m-Q4_K_M.gguf": 10_000}, gated="auto"))


async def refusal_of(manager: DownloadManager, repo_id: str, quantization: str | None = None) -> GglibError:
    """The error of `queue_smart`, with an unchanged queue; `queue_download` raises the same."""
    with pytest.raises(GglibError) as same:
        await manager.queue_download(DownloadRequest(repo_id, quantization))
    with pytest.raises(GglibError) as caught:
        await manager.queue_smart(repo_id, quantization)

    snapshot = manager.snapshot
    assert (snapshot.items, snapshot.resolving, snapshot.recent_failures) == ((), (), ())
    assert (type(same.value), str(same.value)) == (type(caught.value), str(caught.value))
    return caught.value


async def test_a_repository_without_gguf_lists_its_gguf_conversions(hub: FaultyHub, manager: DownloadManager) -> None:
    tags = ("gguf", "base_model:quantized:demo/empty")
    for name, downloads in (("demo/small-of-it-GGUF", 5), ("demo/used-of-it-GGUF", 500)):
        hub.add_repository(make_repository(name, {"m-Q4_K_M.gguf": 1_000}, tags=tags, downloads=downloads))

    refusal = await refusal_of(manager, "demo/empty")
    with pytest.raises(NoGgufFilesError) as planned:
        await manager.plan("demo/empty")

    assert isinstance(refusal, NoGgufFilesError)
    assert refusal.alternatives == ("demo/used-of-it-GGUF", "demo/small-of-it-GGUF")
    assert "Download one: %gguf queue demo/used-of-it-GGUF" in str(refusal)
    assert planned.value.alternatives == refusal.alternatives


async def test_a_search_result_shows_its_page_and_whether_it_is_stored(
    hub: FaultyHub, manager: DownloadManager
) -> None:
    hub.add_repository(make_repository("demo/found-GGUF", {"m-Q4_K_M.gguf": small_gguf("m-Q4_K_M.gguf", 50_000)}))
    await manager.download("demo/found-GGUF")

    (row,) = await manager.search("demo/found")

    assert row.is_here
    assert row.page_url == f"{hub.url}/demo/found-GGUF"
    assert row.fit == "unknown"


async def test_a_search_result_is_stored_however_its_id_is_written(hub: FaultyHub, manager: DownloadManager) -> None:
    hub.add_repository(make_repository("demo/found-GGUF", {"m-Q4_K_M.gguf": small_gguf("m-Q4_K_M.gguf", 50_000)}))
    await manager.download("demo/found-GGUF")
    hub.add_repository(make_repository("demo/Found-GGUF", {"m-Q4_K_M.gguf": 50_000}))

    rows = await manager.search("found-GGUF")

    assert all(row.is_here for row in rows if row.repo_id == "demo/Found-GGUF")
    assert "demo/Found-GGUF" in [row.repo_id for row in rows]


async def test_a_repository_without_gguf_is_refused_by_name(manager: DownloadManager) -> None:
    refusal = await refusal_of(manager, "demo/empty")

    assert isinstance(refusal, NoGgufFilesError)
    assert str(refusal).startswith("demo/empty has no GGUF files. ")
    assert "%gguf search" in str(refusal)


async def test_a_repository_with_only_companions_is_refused_with_their_names(manager: DownloadManager) -> None:
    refusal = await refusal_of(manager, "demo/parts")

    assert isinstance(refusal, NoGgufFilesError)
    assert "only companion files (imatrix, mmproj)" in str(refusal)


async def test_a_plan_of_nothing_is_refused_with_the_same_message(manager: DownloadManager) -> None:
    with pytest.raises(NoGgufFilesError, match=r"^demo/empty has no GGUF files"):
        await manager.plan("demo/empty")


async def test_an_incomplete_set_is_refused_by_name_before_any_byte_is_downloaded(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    refusal = await refusal_of(manager, "demo/broken-GGUF", "q8_0")

    assert isinstance(refusal, IncompleteShardSetError)
    assert refusal.missing == (2, 3)
    assert str(refusal).startswith("demo/broken-GGUF is missing 2 of the 4 files of Q8_0 (number 2, 3)")
    assert hub.bytes_sent() == 0


async def test_the_rule_skips_an_incomplete_set(manager: DownloadManager) -> None:
    queued = await manager.queue_smart("demo/broken-GGUF")

    assert queued.id.quantization == "Q2_K"
    assert queued.reason == "Q2_K is the only variant that is complete and runs on this machine."


async def test_a_plan_marks_an_incomplete_set(manager: DownloadManager) -> None:
    plan = await manager.plan("demo/broken-GGUF")

    assert {variant.key: variant.missing for variant in plan.variants} == {"Q2_K": (), "Q8_0": (2, 3)}


async def test_a_plan_of_only_an_incomplete_set_shows_why_nothing_is_chosen(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    hub.add_repository(make_repository("demo/half-GGUF", {"m-Q8_0-00001-of-00002.gguf": 10_000}))

    plan = await manager.plan("demo/half-GGUF")

    assert [variant.missing for variant in plan.variants] == [(2,)]
    assert plan.recommended is None
    assert plan.undecided.startswith("demo/half-GGUF is missing 1 of the 2 files of Q8_0")


async def test_an_unknown_revision_is_refused_with_the_existing_ones(manager: DownloadManager) -> None:
    with pytest.raises(RevisionNotFoundError, match=r"'v9'.*main"):
        await manager.queue_smart("demo/small-GGUF", "Q4_K_M", revision="v9")
    with pytest.raises(RevisionNotFoundError, match=r"'v9'.*main"):
        await manager.plan("demo/small-GGUF", revision="v9")


@pytest.mark.parametrize("repo_id", [GATED, "demo/auto-GGUF"])
async def test_a_gated_repository_names_its_page_and_the_way_to_log_in(
    manager: DownloadManager, hub: FaultyHub, repo_id: str
) -> None:
    refusal = await refusal_of(manager, repo_id)

    assert isinstance(refusal, GatedRepoError)
    assert refusal.accept_url == f"{hub.url}/{repo_id}"
    assert f"{hub.url}/{repo_id}" in str(refusal)
    assert "hf auth login" in str(refusal)
    assert hub.bytes_sent() == 0


async def test_a_logged_in_user_is_asked_to_request_access_and_not_to_log_in(
    make_manager: Callable[..., DownloadManager], hub: FaultyHub
) -> None:
    refusal = await refusal_of(make_manager(hf_token=PLAIN_TOKEN), GATED)

    assert f"request access on {hub.url}/{GATED}" in str(refusal)
    assert "log in" not in str(refusal)
    assert PLAIN_TOKEN not in str(refusal)


async def test_a_plan_shows_a_gated_repository_and_what_to_do(manager: DownloadManager, hub: FaultyHub) -> None:
    plan = await manager.plan(GATED)

    assert (plan.gate, plan.has_access, plan.accept_url) == ("manual", False, f"{hub.url}/{GATED}")
    assert "accept its terms on" in plan.refusal
    assert "hf auth login" in plan.refusal
    assert [(variant.key, variant.size_bytes) for variant in plan.variants] == [("Q4_K_M", 50_000)]
    assert plan.variants[0].memory is None


async def test_a_granted_token_gets_the_complete_plan_of_a_gated_repository(
    make_manager: Callable[..., DownloadManager],
) -> None:
    plan = await make_manager(hf_token=GRANTED_TOKEN).plan(GATED)

    assert (plan.gate, plan.has_access, plan.accept_url, plan.refusal) == ("manual", True, None, "")
    assert plan.variants[0].memory is not None


async def test_an_inaccessible_repository_is_reported_as_possibly_private(manager: DownloadManager) -> None:
    refusal = await refusal_of(manager, PRIVATE)

    assert isinstance(refusal, RepoNotFoundError)
    assert "private" in str(refusal)
    assert "hf auth login" in str(refusal)
    with pytest.raises(RepoNotFoundError, match="private"):
        await manager.plan(PRIVATE)


async def test_a_private_repository_is_accessible_with_its_token(
    make_manager: Callable[..., DownloadManager], tmp_path: Path
) -> None:
    manager = make_manager(hf_token=GRANTED_TOKEN)

    plan = await manager.plan(PRIVATE)
    path = await manager.download(PRIVATE)

    assert (plan.is_private, plan.has_access) == (True, True)
    assert path.stat().st_size == 10_000


async def test_an_unavailable_companion_is_refused(manager: DownloadManager) -> None:
    with pytest.raises(RequestError, match="'imatrix' cannot be downloaded as a companion; only mmproj, draft can"):
        await manager.queue_smart("demo/vision-GGUF", companions=("imatrix",))
    with pytest.raises(RequestError, match="demo/small-GGUF has no mmproj for Q4_K_M"):
        await manager.queue_smart("demo/small-GGUF", companions=("mmproj",))
    assert manager.snapshot.items == ()


@pytest.mark.parametrize("context", [0, -1, 1.5, True])
def test_an_invalid_context_size_is_refused(manager: DownloadManager, context: object) -> None:
    with pytest.raises(RequestError, match="context is"):
        manager.sync.plan("demo/small-GGUF", context=context)  # type: ignore[arg-type]
