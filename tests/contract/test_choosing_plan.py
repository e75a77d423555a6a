"""A plan's numbers, through the manager: exact, cheap, and available even if some are unknown."""

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from gglib_nb import DownloadManager, DownloadRequest, InvalidQuantizationError
from gglib_nb.demo import Content
from gglib_nb.demo.gguf_writer import Tensor, Value, gguf_content
from gglib_nb.domain.fit import Gpu
from gglib_nb.domain.plan import RepoPlan, VariantPlan
from gglib_nb.manager import hardware
from tests.support.faulty_hub import Cut, FaultyHub, HangUp, Stall, Status
from tests.support.hub import make_files, make_repository, small_gguf
from tests.support.pieces import cut, gguf_bytes
from tests.support.plan_values import plan_html, plan_text
from tests.support.vocabulary import large_gguf

SMALL = "demo/small-GGUF"
LARGE = "demo/large-GGUF"
MIB = 1024**2
LABELS = [
    *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "Q2_K", "Q2_K_L", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M"),
    *("Q3_K_S", "Q3_K_M", "Q3_K_L", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0"),
    "BF16",
]


def row(plan: RepoPlan, key: str) -> VariantPlan:
    return next(variant for variant in plan.variants if variant.key == key)


# Sizes and local bytes


async def test_sizes_and_files_are_exact_and_sorted_by_size(manager: DownloadManager, hub: FaultyHub) -> None:
    plan = await manager.plan("demo/split-GGUF")
    both = await manager.plan(SMALL)

    assert [(one.key, one.size_bytes, one.shard_count) for one in plan.variants] == [("Q4_K_M", 300_006, 3)]
    assert [(one.key, one.size_bytes) for one in both.variants] == [("Q4_K_M", 300_000), ("Q8_0", 500_000)]
    commit = hub.repositories[SMALL].commit()
    assert commit is not None
    assert both.commit_sha == commit.sha


async def test_the_recommended_variant_is_queued_for_the_same_reason(manager: DownloadManager) -> None:
    plan = await manager.plan(SMALL)
    queued = await manager.queue_smart(SMALL)

    assert plan.recommended is not None
    assert (plan.recommended.key, plan.recommended.why) == (queued.id.quantization, queued.reason)


async def test_the_reason_for_a_choice_counts_the_memory_of_gpus(
    manager: DownloadManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_ram", lambda: (200_000, 200_000))
    monkeypatch.setattr(hardware, "_nvidia", lambda *_: [Gpu("GPU", 400_000)])

    plan = await manager.plan(SMALL)
    queued = await manager.queue_smart(SMALL)

    assert plan.recommended is not None
    assert plan.recommended.why == queued.reason == "Q4_K_M is the usual choice."


async def test_a_plan_of_one_variant_shows_only_that(manager: DownloadManager) -> None:
    plan = await manager.plan(SMALL, "q8_0")

    assert [variant.key for variant in plan.variants] == ["Q8_0"]
    with pytest.raises(InvalidQuantizationError, match=r"^demo/small-GGUF has no Q2_K\."):
        await manager.plan(SMALL, "Q2_K")


async def test_a_plan_queues_nothing(manager: DownloadManager) -> None:
    await manager.plan(SMALL)

    snapshot = await manager.get_queue_snapshot()
    assert (snapshot.items, snapshot.resolving) == ((), ())
    assert manager.engine_pid is None


async def test_a_finished_file_counts_as_present_and_needs_no_space(manager: DownloadManager) -> None:
    await manager.download(SMALL, "Q4_K_M")

    here = row(await manager.plan(SMALL), "Q4_K_M")

    assert (here.present_bytes, here.bytes_to_go, here.is_present) == (300_000, 0, True)


async def test_a_joined_file_counts_as_present(manager: DownloadManager, hub: FaultyHub) -> None:
    parts = cut(gguf_bytes(), [f"m-Q8_0.gguf.part{number}of2" for number in (1, 2)])
    hub.add_repository(make_repository("demo/cut-GGUF", parts))
    before = row(await manager.plan("demo/cut-GGUF"), "Q8_0")
    await manager.download("demo/cut-GGUF")

    here = row(await manager.plan("demo/cut-GGUF"), "Q8_0")

    assert (before.present_bytes, before.bytes_to_go) == (0, 200_000)
    assert (here.present_bytes, here.is_present) == (200_000, True)


async def fetch_a_part(manager: DownloadManager, hub: FaultyHub, repo_id: str, quantization: str) -> None:
    """Cancels a download of 4 MiB when more than half of it was sent."""
    hub.set_speed(bytes_per_second=MIB)
    queued = await manager.queue_smart(repo_id, quantization)
    hub.wait_for(lambda _records: hub.bytes_sent(f"m-{quantization}.gguf") > 2 * MIB)
    hub.set_speed(0)
    ended = manager.submit(manager.sync.wait, queued.id)
    await manager.cancel_download(queued.id)
    ended.exception(timeout=60)
    await manager.join()
    hub.set_speed()


@pytest.mark.slow
async def test_a_partial_files_journal_gives_its_present_bytes(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.add_repository(make_repository("demo/slow-GGUF", {"m-Q8_0.gguf": 4 * MIB}))
    await fetch_a_part(manager, hub, "demo/slow-GGUF", "Q8_0")

    here = row(await manager.plan("demo/slow-GGUF"), "Q8_0")

    assert MIB < here.present_bytes < 4 * MIB
    assert here.bytes_to_go == 4 * MIB - here.present_bytes
    assert not here.is_present


@pytest.mark.slow
async def test_a_partial_file_counts_unless_a_new_commit_changed_the_file(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    unchanged = make_files({"m-Q8_0.gguf": 4 * MIB, "README.md": b"Better words."})
    changed = make_files({"m-Q8_0.gguf": small_gguf("m-Q8_0.gguf", 4 * MIB, seed="better weights")})
    hub.add_repository(make_repository("demo/slow-GGUF", {"m-Q8_0.gguf": 4 * MIB}))
    await fetch_a_part(manager, hub, "demo/slow-GGUF", "Q8_0")

    hub.move_branch("demo/slow-GGUF", "main", unchanged)
    still_here = row(await manager.plan("demo/slow-GGUF"), "Q8_0")
    hub.move_branch("demo/slow-GGUF", "main", changed)
    to_go = row(await manager.plan("demo/slow-GGUF"), "Q8_0")

    assert still_here.present_bytes > MIB
    assert (to_go.present_bytes, to_go.bytes_to_go) == (0, 4 * MIB)


# The disk


async def test_free_space_is_counted_after_all_queued_downloads(manager: DownloadManager) -> None:
    await manager.queue_download(DownloadRequest("demo/split-GGUF"))
    await manager.queue_download(DownloadRequest("demo/vision-GGUF", companions=("mmproj",)))
    await manager.pause("demo/split-GGUF:Q4_K_M")

    plan = await manager.plan(SMALL)

    assert plan.queued_bytes == 300_006 + 80_000
    assert plan.free_bytes is not None
    assert [variant.free_bytes_after for variant in plan.variants] == [
        plan.free_bytes - 380_006 - 300_000,
        plan.free_bytes - 380_006 - 500_000,
    ]


async def test_a_queued_variant_is_not_counted_twice(manager: DownloadManager) -> None:
    await manager.queue_download(DownloadRequest(SMALL, "Q8_0", revision="main"))

    queued = row(await manager.plan(SMALL), "Q8_0")
    plan = await manager.plan(SMALL)

    assert queued.is_queued
    assert plan.free_bytes is not None
    assert row(plan, "Q8_0").free_bytes_after == plan.free_bytes - 500_000
    assert row(plan, "Q4_K_M").free_bytes_after == plan.free_bytes - 800_000
    assert not row(plan, "Q4_K_M").is_queued


async def test_a_projector_shared_by_two_downloads_is_counted_once(manager: DownloadManager, hub: FaultyHub) -> None:
    files = {"m-Q4_K_M.gguf": 60_000, "m-Q8_0.gguf": 90_000, "mmproj-F16.gguf": 20_000}
    hub.add_repository(make_repository("demo/both-GGUF", files))
    for label in ("Q4_K_M", "Q8_0"):
        await manager.queue_download(DownloadRequest("demo/both-GGUF", label, companions=("mmproj",)))

    assert (await manager.plan(SMALL)).queued_bytes == 170_000


async def test_space_allocated_by_an_active_download_is_not_subtracted_twice(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    hub.add_repository(make_repository("demo/slow-GGUF", {"m-Q8_0.gguf": 8 * MIB}))
    stall = Stall(after_bytes=100_000)
    hub.faults.add(stall, path="*/m-Q8_0.gguf", origin="cdn", times=None)
    await manager.queue_smart("demo/slow-GGUF")
    hub.wait_for(lambda _records: hub.bytes_sent("m-Q8_0.gguf") > 0)

    plan = await manager.plan(SMALL)

    [partial] = (tmp_path / "models").rglob("*.part")
    assert plan.queued_bytes == max(0, 8 * MIB - partial.stat().st_blocks * 512)
    stall.release()


async def test_the_filesystem_of_a_linked_folder_is_used(
    make_manager: Callable[..., DownloadManager], tmp_path: Path, other_disk: Path
) -> None:
    link = tmp_path / "models"
    link.symlink_to(other_disk / "not" / "there yet")
    here = await make_manager(models_directory=tmp_path / "elsewhere").plan(SMALL)

    there = await make_manager(models_directory=link).plan(SMALL)

    assert here.free_bytes != there.free_bytes
    assert there.free_bytes == pytest.approx(_free(other_disk), rel=0.01)


async def test_a_missing_folder_is_counted_on_its_future_filesystem(
    make_manager: Callable[..., DownloadManager], other_disk: Path
) -> None:
    plan = await make_manager(models_directory=other_disk / "a" / "b").plan(SMALL)

    assert plan.free_bytes == pytest.approx(_free(other_disk), rel=0.01)
    assert not (other_disk / "a").exists()


async def test_a_queue_on_another_filesystem_takes_no_space_here(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path, other_disk: Path
) -> None:
    hub.add_repository(make_repository("other/small-GGUF", {"m-Q4_K_M.gguf": 40_000}))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "other").symlink_to(other_disk)
    await manager.queue_download(DownloadRequest("other/small-GGUF"))
    await manager.queue_download(DownloadRequest(SMALL, "Q8_0"))

    assert (await manager.plan(SMALL)).queued_bytes == 500_000
    assert (await manager.plan("other/small-GGUF")).queued_bytes == 40_000


# The header


async def test_a_plan_with_a_large_vocabulary_reads_only_the_first_kilobytes(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    hub.add_repository(make_repository(LARGE, {"m-Q4_K_M.gguf": large_gguf("m", 8_000_000)}))

    plan = await manager.plan(LARGE, context=4096)

    assert sum(record.bytes_sent for record in hub.requests) < 300_000
    memory = plan.variants[0].memory
    assert memory is not None
    assert (memory.weights_bytes, memory.kv_cache_bytes, memory.is_rough) == (8_000_000, 224 * MIB, False)


@pytest.mark.parametrize("shape", ["around", "last"])
async def test_a_shape_stored_after_the_vocabulary_is_read_at_the_vocabularys_cost(
    manager: DownloadManager, hub: FaultyHub, shape: Literal["around", "last"]
) -> None:
    hub.add_repository(make_repository(LARGE, {"m-Q4_K_M.gguf": large_gguf("m", 8_000_000, shape=shape)}))

    plan = await manager.plan(LARGE)

    assert sum(record.bytes_sent for record in hub.requests) < 8_500_000
    memory = plan.variants[0].memory
    assert memory is not None
    assert (memory.kv_cache_bytes, memory.is_rough) == (448 * MIB, False)


async def test_25_variants_of_one_model_cost_five_requests(manager: DownloadManager, hub: FaultyHub) -> None:
    sizes = {f"m-{label}.gguf": 8_000_000 + 1000 * number for number, label in enumerate(LABELS)}
    hub.add_repository(make_repository(LARGE, {path: large_gguf(path, size) for path, size in sizes.items()}))

    plan = await manager.plan(LARGE)

    assert len(hub.requests) == 5  # info, tree, the scan, two for the header
    assert sum(record.bytes_sent for record in hub.requests) < 300_000
    assert [variant.key for variant in plan.variants] == LABELS
    assert all(variant.memory is not None for variant in plan.variants)


async def test_each_of_several_models_has_its_own_header(manager: DownloadManager, hub: FaultyHub) -> None:
    files: dict[str, Content | int] = {
        "a-Q8_0.gguf": large_gguf("a", 8_000_000),
        "b-Q8_0.gguf": 20_000,
        "b-Q4_0.gguf": 10_000,
    }
    hub.add_repository(make_repository(LARGE, files))

    plan = await manager.plan(LARGE, context=4096)

    caches = {variant.key: variant.memory.kv_cache_bytes for variant in plan.variants if variant.memory}
    assert caches["a-Q8_0"] == 224 * MIB
    assert caches["b-Q8_0"] == caches["Q4_0"] != 224 * MIB


async def test_more_context_takes_more_memory_and_exceeding_the_training_is_reported(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    hub.add_repository(make_repository(LARGE, {"m-Q4_K_M.gguf": large_gguf("m", 8_000_000)}))

    usual, longer = await manager.plan(LARGE), await manager.plan(LARGE, context=65_536)

    assert (usual.context_tokens, longer.context_tokens) == (8192, 65_536)
    assert usual.variants[0].memory is not None
    assert longer.variants[0].memory is not None
    assert longer.variants[0].memory.kv_cache_bytes == 8 * (usual.variants[0].memory.kv_cache_bytes or 0)
    assert longer.variants[0].memory.notes == ("The model was trained for 32,768 tokens.",)


async def test_an_unknown_architecture_is_marked_rough(manager: DownloadManager, hub: FaultyHub) -> None:
    shape: dict[str, Value] = {
        "general.architecture": "novel",
        "novel.block_count": 4,
        "novel.embedding_length": 1024,
        "novel.attention.head_count": 8,
    }
    hub.add_repository(make_repository(LARGE, {"m-Q8_0.gguf": gguf_content(shape, [Tensor("w", (4096,), "I8")], "m")}))

    memory = (await manager.plan(LARGE)).variants[0].memory

    assert memory is not None
    assert memory.is_rough
    assert memory.notes == ("The architecture novel may keep more state.",)


FAULTS = [Status(403), Status(404), Status(500), Status(429), HangUp()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("origin", "fault"), [("cdn", Cut(after_bytes=10)), *itertools.product(["hub", "cdn"], FAULTS)], ids=str
)
async def test_without_a_header_a_plan_has_no_estimate(
    manager: DownloadManager, hub: FaultyHub, origin: Literal["hub", "cdn"], fault: Status
) -> None:
    hub.faults.add(fault, path="*.gguf", origin=origin, times=None)

    plan = await manager.plan(SMALL)

    assert [variant.memory for variant in plan.variants] == [None, None]
    assert plan.context_tokens is None
    assert plan.recommended is not None
    asked = [one.origin for one in hub.requests if (one.path_in_repo or "").endswith(".gguf")]
    assert asked.count(origin) <= 2, "a plan waited long for a header that it can do without"


@pytest.mark.slow
async def test_a_stalled_storage_does_not_delay_the_plan_for_long(manager: DownloadManager, hub: FaultyHub) -> None:
    stall = Stall()
    hub.faults.add(stall, path="*.gguf", origin="cdn", times=None)
    began_s = time.monotonic()

    plan = await manager.plan(SMALL)
    stall.release()

    assert plan.variants[0].memory is None
    assert time.monotonic() - began_s < 30


@pytest.mark.parametrize(
    "content", [b"not a model at all" * 100, b"GGUF" + bytes(1000), b"version https://git-lfs.github.com/spec/v1\n" * 9]
)
async def test_for_a_file_that_is_not_gguf_a_plan_has_no_estimate(
    manager: DownloadManager, hub: FaultyHub, content: bytes
) -> None:
    hub.add_repository(make_repository(LARGE, {"m-Q8_0.gguf": content}))

    plan = await manager.plan(LARGE)

    assert [(variant.size_bytes, variant.memory) for variant in plan.variants] == [(len(content), None)]


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


async def test_the_plan_warns_of_a_file_marked_unsafe_by_the_hubs_scan(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    known = hub.repositories["demo/small-GGUF"]
    path = next(file.path for file in known.files if "Q4_K_M" in file.path)
    hub.add_repository(replace(known, unsafe=frozenset({path})))

    plan = await manager.plan("demo/small-GGUF")

    assert plan.unsafe_files == ((path, "unsafe"),)
    assert any(path in line and "unsafe" in line for line in plan_text(plan).splitlines())
    [marked] = [variant for variant in plan.variants if variant.scan_finding]
    assert plan.best_fit is not marked
    assert "unsafe: do not load it" in plan_text(plan)
    if marked.is_recommended:
        assert "Choose another row" in plan_text(plan)
        assert "Download it with" not in plan_text(plan)
    assert path in plan_html(plan)
