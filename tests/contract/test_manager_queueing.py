"""Queueing through the port, against the embedded hub: what is queued, refused, downloaded and registered."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gglib_nb import (
    AlreadyQueuedError,
    AmbiguousQuantizationError,
    DownloadManager,
    DownloadRequest,
    GatedRepoError,
    InvalidQuantizationError,
    InvalidTokenError,
    ModelNotFoundError,
    NotInQueueError,
    QueueFullError,
    RepoNotFoundError,
    RevisionNotFoundError,
)
from gglib_nb.demo import GRANTED_TOKEN
from gglib_nb.notebook.actions import act
from gglib_nb.notebook.messages import Act
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verbs import parse
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository

SMALL = "demo/small-GGUF"
SPLIT = "demo/split-GGUF"
VISION = "demo/vision-GGUF"


def say(manager: DownloadManager, line: str) -> str:
    return parse(line).run(Session(lambda: manager)).text


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest_at(hub: FaultyHub, repo_id: str, path: str) -> str:
    files = hub.repositories[repo_id].commit("main").files
    return files[path].content.sha256


# Queueing
async def test_queue_and_process_downloads_the_verified_file(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    id_ = await manager.queue_and_process(DownloadRequest(SMALL, "Q4_K_M"))

    finished = await manager.wait(id_)

    assert finished.paths == (tmp_path / "models" / "demo" / "small-GGUF" / "small-Q4_K_M.gguf",)
    assert sha256_of(finished.paths[0]) == digest_at(hub, SMALL, "small-Q4_K_M.gguf")
    assert finished.is_verified


async def test_queue_smart_without_a_quantization_explains_its_choice(
    manager: DownloadManager, held: FaultyHub
) -> None:
    queued = await manager.queue_smart(SMALL)

    assert queued.id.quantization == "Q4_K_M"
    assert "Q4_K_M" in queued.reason


async def test_queue_download_of_a_live_id_is_refused(manager: DownloadManager, held: FaultyHub) -> None:
    await manager.queue_smart(SMALL, "Q4_K_M")

    with pytest.raises(AlreadyQueuedError) as refusal:
        await manager.queue_download(DownloadRequest(SMALL, "Q4_K_M"))

    assert refusal.value.other_id == "demo/small-GGUF:Q4_K_M"


async def test_a_full_queue_refuses_and_does_not_change(
    make_manager: Callable[..., DownloadManager], held: FaultyHub
) -> None:
    manager = make_manager(max_queue_size=1)
    await manager.queue_smart(SMALL, "Q4_K_M")
    await manager.queue_smart(SMALL, "Q8_0")

    with pytest.raises(QueueFullError) as refusal:
        await manager.queue_smart(SPLIT)

    assert refusal.value.max_size == 1
    assert [str(item.id) for item in manager.snapshot.items] == ["demo/small-GGUF:Q4_K_M", "demo/small-GGUF:Q8_0"]


async def test_a_model_of_twelve_shards_fits_a_queue_of_ten(manager: DownloadManager, hub: FaultyHub) -> None:
    shards = {f"big-Q8_0-{number:05}-of-00012.gguf": 20_000 for number in range(1, 13)}
    hub.add_repository(make_repository("demo/big-GGUF", shards))

    queued = await manager.queue_smart("demo/big-GGUF")
    finished = await manager.wait(queued.id)

    assert queued.shard_count == 12
    assert [path.name for path in finished.paths] == sorted(shards)


# Requests that are refused


async def test_an_unknown_repository_is_named(manager: DownloadManager) -> None:
    with pytest.raises(RepoNotFoundError, match="demo/nothing"):
        await manager.queue_smart("demo/nothing")

    assert manager.snapshot.items == ()
    assert manager.snapshot.resolving == ()


async def test_an_unknown_revision_is_named(manager: DownloadManager) -> None:
    with pytest.raises(RevisionNotFoundError, match="nowhere"):
        await manager.queue_smart(SMALL, "Q4_K_M", revision="nowhere")


async def test_an_unknown_quantization_lists_the_choices(manager: DownloadManager) -> None:
    with pytest.raises(InvalidQuantizationError) as refusal:
        await manager.queue_smart(SMALL, "Q2_K")

    assert set(refusal.value.choices) == {"Q4_K_M", "Q8_0"}


async def test_a_choice_without_a_rule_lists_the_choices(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.add_repository(make_repository("demo/odd-GGUF", {"odd-F16.gguf": 10_000, "odd-F32.gguf": 20_000}))

    with pytest.raises(AmbiguousQuantizationError) as refusal:
        await manager.queue_smart("demo/odd-GGUF")

    assert set(refusal.value.choices) == {"F16", "F32"}


async def test_a_gated_repository_is_refused_before_it_is_queued(manager: DownloadManager, hub: FaultyHub) -> None:
    with pytest.raises(GatedRepoError) as refusal:
        await manager.queue_smart("demo/gated-GGUF")

    assert refusal.value.accept_url == f"{hub.url}/demo/gated-GGUF"
    assert manager.snapshot.items == ()


async def test_a_granted_token_opens_a_gated_repository(make_manager: Callable[..., DownloadManager]) -> None:
    manager = make_manager(hf_token=GRANTED_TOKEN)

    path = await manager.download("demo/gated-GGUF")

    assert path.stat().st_size == 50_000


async def test_a_wrong_token_is_reported(make_manager: Callable[..., DownloadManager]) -> None:
    manager = make_manager(hf_token="hf_not_a_token")

    with pytest.raises(InvalidTokenError):
        await manager.queue_smart(SMALL, "Q4_K_M")


# The catalog


async def test_a_finished_download_is_registered_with_its_commit_and_digests(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    await manager.download(SPLIT)

    [model] = manager.catalog.models()
    assert (str(model.id), model.label) == ("demo/split-GGUF:Q4_K_M", "Q4_K_M")
    assert model.commit_sha == hub.repositories[SPLIT].commit("main").sha
    assert [file.size_bytes for file in model.files] == [100_001, 100_002, 100_003]
    assert model.facts["architecture"] == "llama"


async def test_without_add_to_db_a_download_is_not_registered(manager: DownloadManager) -> None:
    await manager.download(SMALL, "Q4_K_M", add_to_db=False)

    assert manager.catalog.models() == []


async def test_files_already_on_disk_are_not_downloaded(manager: DownloadManager, hub: FaultyHub) -> None:
    await manager.download(SMALL, "Q4_K_M")
    before = hub.bytes_sent("small-Q4_K_M.gguf")

    queued = await manager.queue_smart(SMALL, "Q4_K_M")
    finished = await manager.wait(queued.id)

    assert finished.was_present
    assert hub.bytes_sent("small-Q4_K_M.gguf") == before


async def test_the_matching_mmproj_is_also_downloaded_and_is_not_a_shard(
    manager: DownloadManager, tmp_path: Path
) -> None:
    queued = await manager.queue_smart(VISION, companions=("mmproj",))

    finished = await manager.wait(queued.id)

    assert queued.shard_count == 1
    assert [path.name for path in finished.paths] == ["vision-Q4_K_M.gguf"]
    assert (tmp_path / "models" / "demo" / "vision-GGUF" / "mmproj-vision-F16.gguf").stat().st_size == 20_000


# The handle of a queued download


async def test_the_handle_of_queue_smart_can_wait_and_has_the_path(manager: DownloadManager) -> None:
    queued = await manager.queue_smart(SPLIT)

    finished = await queued.wait()

    assert finished.paths[0] == queued.path
    assert repr(queued) == "<SmartQueueResult demo/split-GGUF:Q4_K_M: active, 3 shards>"


async def test_the_handle_of_queue_smart_can_cancel_and_discard(manager: DownloadManager, held: FaultyHub) -> None:
    await manager.queue_smart(SMALL, "Q4_K_M")
    queued = await manager.queue_smart(SMALL, "Q8_0")
    said = repr(queued)

    await queued.cancel(discard=True)

    assert said == "<SmartQueueResult demo/small-GGUF:Q8_0: position 1, 1 shard>"
    assert [str(item.id) for item in manager.snapshot.items] == ["demo/small-GGUF:Q4_K_M"]


def test_the_handle_works_without_a_loop(manager: DownloadManager) -> None:
    queued = manager.sync.queue_smart(SMALL, "Q4_K_M")

    assert queued.sync.wait().paths == (queued.path,)


# One rule for references


async def test_every_operation_accepts_a_part_of_an_id_or_a_number(manager: DownloadManager, held: FaultyHub) -> None:
    await manager.queue_smart(SMALL, "Q4_K_M")
    await manager.queue_smart(SMALL, "Q8_0")
    await manager.queue_smart(SPLIT)

    await manager.reorder_queue("split", 1)
    await manager.pause("q8_0")
    await manager.remove_from_queue("#1")

    assert [(str(item.id), item.status.value) for item in manager.snapshot.items] == [
        ("demo/small-GGUF:Q4_K_M", "downloading"),
        ("demo/small-GGUF:Q8_0", "paused"),
    ]
    assert await manager.has_download("Q8")
    assert not await manager.has_download("Q5")
    with pytest.raises(NotInQueueError, match="matches 2 downloads"):
        await manager.cancel_download("small")


async def test_restoring_a_removed_download_restores_all_its_options(manager: DownloadManager, held: FaultyHub) -> None:
    await manager.queue_smart(SMALL, "Q4_K_M")
    await manager.queue_smart(SMALL, "Q8_0", force=True, add_to_db=False)
    await manager.queue_smart(SPLIT)
    await manager.pause("q8")
    before = manager.snapshot.items

    await manager.cancel_all()
    await manager.put_back(*(item.id for item in reversed(before)))

    after = manager.snapshot.items
    assert [(item.id, item.status, item.position) for item in after] == [
        (item.id, item.status, item.position) for item in before
    ]


async def test_a_part_of_an_id_and_a_number_restore_a_cancelled_download(
    manager: DownloadManager, held: FaultyHub
) -> None:
    await manager.queue_smart(SMALL, "Q4_K_M")
    await manager.queue_smart(SMALL, "Q8_0")
    await manager.queue_smart(SPLIT)
    await manager.remove_from_queue("Q8")

    assert await manager.put_back("small") == (1,)

    await manager.remove_from_queue("Q8")
    assert await manager.put_back("#1") == (1,)


def test_a_button_of_a_row_that_has_gone_acts_on_no_other_row(manager: DownloadManager, held: FaultyHub) -> None:
    manager.sync.queue_smart(SMALL, "Q8_0")

    with pytest.raises(NotInQueueError):
        act(manager.sync, Act(cid="1", action="cancel", id=f"{SMALL}:Q8"), print)

    assert manager.sync.has_download(f"{SMALL}:Q8_0")


def test_a_cancellation_that_is_run_again_takes_no_id_for_the_beginning_of_another(
    manager: DownloadManager, held: FaultyHub
) -> None:
    held.add_repository(make_repository("demo/l-GGUF", {"l-Q6_K.gguf": 3_000, "l-Q6_K_L.gguf": 4_000}))
    for label in ("Q6_K", "Q6_K_L"):
        manager.sync.queue_smart("demo/l-GGUF", label)
    say(manager, "cancel demo/l-GGUF:Q6_K")

    with pytest.raises(NotInQueueError):
        say(manager, "cancel demo/l-GGUF:Q6_K")
    say(manager, "cancel demo/l-GGUF:Q6_K --discard")
    for cancel in (
        partial(manager.sync.cancel_download, discard=True),
        lambda id_: say(manager, f"cancel {id_} --discard"),
    ):
        with pytest.raises(NotInQueueError, match=r"Did you mean demo/l-GGUF:Q6_K_L\?$"):
            cancel("demo/l-GGUF:Q6_K")

    assert manager.sync.has_download("demo/l-GGUF:Q6_K_L")
    assert say(manager, "cancel l-gguf --discard") == "Cancelled demo/l-GGUF:Q6_K_L. Downloaded data was deleted."


def test_a_button_of_a_model_that_has_gone_acts_on_no_other_model(manager: DownloadManager) -> None:
    path = manager.sync.download(SMALL, "Q8_0")

    with pytest.raises(ModelNotFoundError, match=r"^demo/small-GGUF:Q8 is no longer one of your models\.$"):
        act(manager.sync, Act(cid="1", action="delete:now", id=f"{SMALL}:Q8"), print)

    assert path.exists()
