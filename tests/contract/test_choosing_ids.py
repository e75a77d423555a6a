"""Variants that share a label: every operation accepts their ids, made of a file's stem or a hash."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gglib_nb import (
    AmbiguousQuantizationError,
    DownloadId,
    DownloadManager,
    DownloadRequest,
    DownloadStatus,
    InvalidQuantizationError,
    NotInQueueError,
)
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verbs import parse
from tests.support.faulty_hub import FaultyHub, Status
from tests.support.hub import make_files, make_repository, small_gguf

REPO = "demo/many-GGUF"
SMALL, LARGE = f"{REPO}:small-Q8_0", f"{REPO}:large-Q8_0"
CHECKPOINTS = "demo/checkpoints-GGUF"
FIRST, SECOND = (f"step-{number}/m-Q8_0.gguf" for number in (1000, 2000))
COPIES = "demo/copies-GGUF"
ENDIAN = "demo/endian-GGUF"


@pytest.fixture(autouse=True)
def repositories(hub: FaultyHub) -> None:
    """Two models with one label; one name in two folders; a single file and its split copy; a big-endian build."""
    hub.add_repository(
        make_repository(REPO, {"small-Q8_0.gguf": 20_000, "large-Q8_0.gguf": 40_000, "large-Q4_K_M.gguf": 30_000})
    )
    hub.add_repository(make_repository(CHECKPOINTS, {FIRST: 20_000, SECOND: 21_000}))
    shards = {f"split/m-Q8_0-{number:05}-of-00002.gguf": 20_000 + number for number in (1, 2)}
    hub.add_repository(make_repository(COPIES, {"m-Q8_0.gguf": 40_000} | shards))
    hub.add_repository(make_repository(ENDIAN, {"m-Q8_0.gguf": 40_000, "m-be-Q8_0.gguf": 40_001}))


def hash_key(path: str) -> str:
    return {FIRST: "~11997cc5", SECOND: "~1861554c"}[path]


async def test_an_ambiguous_label_lists_the_choices(manager: DownloadManager) -> None:
    with pytest.raises(AmbiguousQuantizationError) as refusal:
        await manager.queue_smart(REPO, "Q8_0")

    assert refusal.value.choices == ("large-Q8_0", "small-Q8_0")
    assert str(refusal.value) == (
        "demo/many-GGUF has 2 variants named Q8_0. Choose one of them: large-Q8_0, small-Q8_0."
    )
    assert manager.snapshot.items == ()


async def test_a_unique_label_is_the_id(manager: DownloadManager) -> None:
    queued = await manager.queue_smart(REPO, "q4_k_m")

    assert str(queued.id) == f"{REPO}:Q4_K_M"


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["small-Q8_0", "SMALL-q8_0", "small-Q8_0.gguf", "Small-Q8_0.GGUF"])
async def test_a_stem_or_file_name_in_any_case_can_replace_a_quantization(manager: DownloadManager, asked: str) -> None:
    path = await manager.download(REPO, asked)

    assert path.name == "small-Q8_0.gguf"
    assert str(manager.catalog.models()[0].id) == SMALL


@pytest.mark.slow
@pytest.mark.parametrize("path", [FIRST, SECOND])
async def test_a_stem_shared_by_two_folders_becomes_a_hash_of_the_path(
    manager: DownloadManager, tmp_path: Path, path: str
) -> None:
    queued = await manager.queue_smart(CHECKPOINTS, path)
    finished = await manager.wait(queued.id)
    again = await manager.queue_smart(CHECKPOINTS, queued.id.quantization)

    assert queued.id == DownloadId(CHECKPOINTS, hash_key(path))
    assert DownloadId.parse(str(queued.id)) == queued.id
    assert finished.paths == (tmp_path / "models" / CHECKPOINTS / path,)
    assert again.id == queued.id
    assert manager.catalog.find(str(queued.id)).id == queued.id


async def test_two_variants_of_one_label_are_two_downloads(manager: DownloadManager) -> None:
    ids = [(await manager.queue_smart(REPO, name)).id for name in ("small-Q8_0", "large-Q8_0")]

    await manager.join()

    assert {str(model.id) for model in manager.catalog.models()} == {SMALL, LARGE} == set(map(str, ids))


OPERATIONS: dict[str, Callable[[DownloadManager, str], Awaitable[object]]] = {
    "cancel_download": lambda manager, id_: manager.cancel_download(id_),
    "cancel_group": lambda manager, id_: manager.cancel_group(id_),
    "remove_from_queue": lambda manager, id_: manager.remove_from_queue(id_),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("asked", [SMALL, f"{REPO}:SMALL-q8_0"])
async def test_only_the_named_variant_leaves_the_queue(manager: DownloadManager, operation: str, asked: str) -> None:
    await manager.queue_download(DownloadRequest(REPO, "small-Q8_0"))
    await manager.queue_download(DownloadRequest(REPO, "large-Q8_0"))

    await OPERATIONS[operation](manager, asked)

    assert [str(item.id) for item in manager.snapshot.items] == [LARGE]


async def test_only_the_named_variant_is_moved_and_paused(manager: DownloadManager) -> None:
    for path in (FIRST, SECOND):
        await manager.queue_download(DownloadRequest(CHECKPOINTS, path))
    second = f"{CHECKPOINTS}:{hash_key(SECOND)}"

    position = await manager.reorder_queue(second, 1)
    await manager.pause(second)

    assert position == 1
    assert [(str(item.id), item.status) for item in manager.snapshot.items] == [
        (second, DownloadStatus.PAUSED),
        (f"{CHECKPOINTS}:{hash_key(FIRST)}", DownloadStatus.QUEUED),
    ]
    assert await manager.has_download(second)
    await manager.resume(second)
    assert (await manager.wait(second)).paths[0].parent.name == "step-2000"


async def test_a_failed_variant_is_retried_by_its_id(manager: DownloadManager, hub: FaultyHub) -> None:
    fault = hub.faults.add(Status(404), path=f"*{SECOND}", times=None)
    queued = await manager.queue_smart(CHECKPOINTS, SECOND)
    waiting = manager.submit(manager.sync.wait, queued.id)
    assert waiting.exception(timeout=60) is not None
    hub.faults.remove(fault)

    with pytest.raises(NotInQueueError):
        await manager.retry(f"{CHECKPOINTS}:{hash_key(FIRST)}")
    await manager.retry(str(queued.id))

    assert (await manager.wait(queued.id)).is_verified


async def test_a_single_file_is_preferred_over_its_split_copy(manager: DownloadManager) -> None:
    single = await manager.queue_smart(COPIES, "Q8_0")
    copy = await manager.queue_smart(COPIES, "m-Q8_0-00001-of-00002.gguf")

    assert (str(single.id), single.shard_count) == (f"{COPIES}:Q8_0", 1)
    assert (str(copy.id), copy.shard_count) == (f"{COPIES}:m-Q8_0", 2)
    await manager.join()
    assert [path.name for path in (await manager.wait(single.id)).paths] == ["m-Q8_0.gguf"]
    assert [path.parent.name for path in (await manager.wait(copy.id)).paths] == ["split", "split"]


async def test_a_big_endian_build_is_downloaded_only_by_name(manager: DownloadManager) -> None:
    by_rule = await manager.queue_smart(ENDIAN)
    by_label = await manager.queue_smart(ENDIAN, "Q8_0")
    by_name = await manager.queue_smart(ENDIAN, "m-be-Q8_0")

    assert str(by_rule.id) == str(by_label.id) == f"{ENDIAN}:m-Q8_0"
    assert str(by_name.id) == f"{ENDIAN}:m-be-Q8_0"


async def test_several_models_with_the_preferred_label_require_a_choice(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    hub.add_repository(make_repository("demo/two-GGUF", {"a-7b-Q4_K_M.gguf": 5_000, "a-3b-Q4_K_M.gguf": 4_000}))

    with pytest.raises(AmbiguousQuantizationError, match=r"^demo/two-GGUF .*: a-3b-Q4_K_M, a-7b-Q4_K_M\.$"):
        await manager.queue_smart("demo/two-GGUF")
    assert (await manager.queue_smart("demo/two-GGUF", "a-3b-q4_k_m")).id.quantization == "a-3b-Q4_K_M"


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "meant"), [("Q4KM", "Q4_K_M"), ("q4-km", "Q4_K_M"), ("smal-Q8_0", "small-Q8_0")])
async def test_a_near_miss_suggests_a_download(manager: DownloadManager, asked: str, meant: str) -> None:
    with pytest.raises(InvalidQuantizationError, match=f"^{REPO} has no {asked}. Did you mean {meant}\\?") as refusal:
        await manager.queue_smart(REPO, asked)

    assert refusal.value.choices[0] == meant


async def test_a_plan_names_each_variant_by_an_id_that_can_be_queued(manager: DownloadManager) -> None:
    plan = await manager.plan(CHECKPOINTS)
    for variant in plan.variants:
        await manager.queue_download(DownloadRequest(CHECKPOINTS, variant.key))
    queued = [item.id for item in manager.snapshot.items]

    assert [variant.key for variant in plan.variants] == [hash_key(FIRST), hash_key(SECOND)]
    assert [id_.quantization for id_ in queued] == [hash_key(FIRST), hash_key(SECOND)]
    assert [variant.is_queued for variant in (await manager.plan(CHECKPOINTS)).variants] == [True, True]


def test_a_command_with_an_id_that_has_a_space_can_be_pasted(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.add_repository(make_repository("demo/words-GGUF", {"my model.gguf": 20_000, "another.gguf": 20_000}))
    session = Session(lambda: manager)

    def say(line: str) -> str:
        return parse(line).run(session).text

    say("queue 'demo/words-GGUF:my model' --no-start")
    for line in ("remove #1", "pause #1"):
        _, _, pasted = say(line).rpartition("%gguf ")
        assert " demo/words-GGUF:my model" in say(pasted)

    path = manager.sync.download("demo/words-GGUF", "my model")
    path.write_bytes(b"damaged")
    _, _, pasted = say("verify model").rpartition("%gguf ")
    assert say(pasted).startswith("Repairing demo/words-GGUF:my model")


async def test_a_model_requested_by_two_revisions_is_registered_under_both(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    content = small_gguf("m-Q4_K_M.gguf", 50_000)
    files = {"m-Q4_K_M.gguf": content}
    hub.add_repository(make_repository("demo/tagged-GGUF", files, revisions={"v1": make_files(files)}))
    hub.set_speed(bytes_per_second=0)
    first = await manager.queue_smart("demo/tagged-GGUF", revision="v1")
    await manager.queue_smart("demo/tagged-GGUF")
    hub.set_speed()

    await manager.wait(first.id)

    assert sorted(str(model.id) for model in manager.catalog.models()) == [
        "demo/tagged-GGUF:Q4_K_M",
        "demo/tagged-GGUF@v1:Q4_K_M",
    ]
