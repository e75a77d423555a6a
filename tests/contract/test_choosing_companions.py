"""`--with mmproj`: the matching projector is also downloaded, with its own bar and bytes, and is not part of the model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gglib_nb import AlreadyQueuedError, DownloadManager
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository

VISION = "demo/vision-GGUF"
PROJECTOR = "mmproj-vision-F16.gguf"
BOTH = "demo/both-GGUF"
SPLIT = "demo/split-draft-GGUF"


@pytest.fixture(autouse=True)
def repositories(hub: FaultyHub) -> None:
    hub.add_repository(
        make_repository(
            BOTH,
            {
                "m-Q4_K_M.gguf": 60_000,
                "m-Q8_0-00001-of-00002.gguf": 50_000,
                "m-Q8_0-00002-of-00002.gguf": 40_000,
                "mmproj-m-F16.gguf": 20_000,
                "mmproj-m-F32.gguf": 30_000,
            },
        )
    )


async def test_a_companion_has_its_own_bar_and_bytes_and_is_not_a_shard(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    hub.set_speed(bytes_per_second=0)
    queued = await manager.queue_smart(BOTH, "Q8_0", companions=("mmproj",))
    [item] = (await manager.get_queue_snapshot()).items
    hub.set_speed()

    finished = await manager.wait(queued.id)

    assert queued.shard_count == 2
    assert [(bar.kind, bar.path_in_repo, bar.size_bytes) for bar in item.companions] == [
        ("mmproj", "mmproj-m-F16.gguf", 20_000)
    ]
    assert [bar.kind for bar in item.shards] == ["shard", "shard"]
    assert item.total_bytes == 110_000
    assert [path.name for path in finished.paths] == ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"]
    assert (tmp_path / "models" / BOTH / "mmproj-m-F16.gguf").stat().st_size == 20_000
    assert not (tmp_path / "models" / BOTH / "mmproj-m-F32.gguf").exists()


async def test_a_companion_is_downloaded_only_on_request(manager: DownloadManager, hub: FaultyHub) -> None:
    await manager.download(VISION)

    assert hub.bytes_sent(PROJECTOR) == 0


async def test_a_companion_requested_twice_is_downloaded_once(manager: DownloadManager, hub: FaultyHub) -> None:
    path = await manager.download(VISION, companions=("mmproj", "mmproj"))

    assert path.name == "vision-Q4_K_M.gguf"
    assert hub.bytes_sent(PROJECTOR) == 20_000


@pytest.mark.slow
@pytest.mark.parametrize("max_concurrent", [1, 2])
async def test_two_quantizations_queued_at_once_share_one_projector(
    make_manager: Callable[..., DownloadManager], hub: FaultyHub, tmp_path: Path, max_concurrent: int
) -> None:
    manager = make_manager(max_concurrent=max_concurrent)
    hub.set_speed(bytes_per_second=0)
    first = await manager.queue_smart(BOTH, "Q4_K_M", companions=("mmproj",))
    second = await manager.queue_smart(BOTH, "Q8_0", companions=("mmproj",))
    hub.set_speed()

    paths = [(await manager.wait(queued.id)).paths for queued in (first, second)]

    assert [len(each) for each in paths] == [1, 2]
    assert hub.bytes_sent("mmproj-m-F16.gguf") == 20_000
    registered = {str(model.id): [file.kind for file in model.files] for model in manager.catalog.models()}
    assert registered == {f"{BOTH}:Q4_K_M": ["shard", "mmproj"], f"{BOTH}:Q8_0": ["shard", "shard", "mmproj"]}


async def test_cancelling_one_download_keeps_the_projector_for_the_other(
    make_manager: Callable[..., DownloadManager], hub: FaultyHub, tmp_path: Path
) -> None:
    manager = make_manager(max_concurrent=2)
    hub.set_speed(bytes_per_second=0)
    first = await manager.queue_smart(BOTH, "Q4_K_M", companions=("mmproj",))
    second = await manager.queue_smart(BOTH, "Q8_0", companions=("mmproj",))

    await manager.cancel_download(first.id, discard=True)
    hub.set_speed()
    await manager.wait(second.id)

    assert (tmp_path / "models" / BOTH / "mmproj-m-F16.gguf").stat().st_size == 20_000
    assert not (tmp_path / "models" / BOTH / "m-Q4_K_M.gguf").exists()


async def test_a_companion_can_be_added_to_a_stored_model(manager: DownloadManager, hub: FaultyHub) -> None:
    await manager.download(VISION)
    before = hub.bytes_sent("vision-Q4_K_M.gguf")

    await manager.download(VISION, companions=("mmproj",))

    assert hub.bytes_sent("vision-Q4_K_M.gguf") == before
    assert hub.bytes_sent(PROJECTOR) == 20_000


@pytest.mark.slow
async def test_a_running_download_without_it_is_not_joined_silently(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.set_speed(bytes_per_second=0)
    await manager.queue_smart(VISION)

    with pytest.raises(AlreadyQueuedError, match="without its mmproj"):
        await manager.queue_smart(VISION, companions=("mmproj",))
    hub.set_speed()


async def test_a_plan_offers_the_matching_companion(manager: DownloadManager) -> None:
    plan = await manager.plan(BOTH)

    assert [(one.path, one.kind) for one in plan.companions] == [
        ("mmproj-m-F16.gguf", "mmproj"),
        ("mmproj-m-F32.gguf", "mmproj"),
    ]
    assert [[one.path for one in variant.companions] for variant in plan.variants] == [["mmproj-m-F16.gguf"]] * 2


@pytest.mark.parametrize("wanted", ["mmproj-m-F32.gguf", "mmproj-m-F32", "MMPROJ-M-F32.gguf"])
async def test_a_listed_companion_can_be_downloaded_alone(
    manager: DownloadManager, tmp_path: Path, wanted: str
) -> None:
    path = await manager.download(BOTH, wanted)

    assert path == tmp_path / "models" / BOTH / "mmproj-m-F32.gguf"
    plan = await manager.plan(BOTH, wanted)
    assert [(row.key, row.is_present) for row in plan.variants] == [("mmproj-m-F32", True)]


async def test_a_repository_with_only_companions_lists_them_and_each_can_be_downloaded(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    files = {"mmproj-F16.gguf": 2_000, "lora/style-F16.gguf": 3_000, "m.imatrix": b"matrix"}
    hub.add_repository(make_repository("demo/parts-GGUF", files))

    plan = await manager.plan("demo/parts-GGUF")
    paths = [await manager.download("demo/parts-GGUF", row.key) for row in plan.variants]

    assert sorted(path.name for path in paths) == ["m.imatrix", "mmproj-F16.gguf", "style-F16.gguf"]
    assert plan.recommended is None


async def test_a_draft_is_downloaded_with_its_model(manager: DownloadManager, hub: FaultyHub) -> None:
    files = {"m-7B-Q4_K_M.gguf": 60_000, "mtp-m-7B.gguf": 20_000, "mtp-n-7B.gguf": 20_000}
    hub.add_repository(make_repository("demo/draft-GGUF", files))

    await manager.download("demo/draft-GGUF", companions=("draft",))

    assert {Path(file.target).name: file.kind for file in manager.catalog.models()[0].files} == {
        "m-7B-Q4_K_M.gguf": "shard",
        "mtp-m-7B.gguf": "draft",
    }


async def test_of_a_split_companion_all_files_are_downloaded(manager: DownloadManager, hub: FaultyHub) -> None:
    drafts = [f"mtp-m-7B-Q8_0-0000{number}-of-00002.gguf" for number in (1, 2)]
    incomplete = {"mtp-m-7B-Q4_0-00001-of-00002.gguf": 5_000}
    hub.add_repository(
        make_repository(SPLIT, {"m-7B-Q4_K_M.gguf": 60_000, **dict.fromkeys(drafts, 20_000)} | incomplete)
    )

    [row] = (await manager.plan(SPLIT)).variants
    await manager.download(SPLIT, companions=("draft",))

    [model] = manager.catalog.models()
    assert [(one.path, one.size_bytes) for one in row.companions] == [(drafts[0], 40_000)]
    assert [Path(file.target).name for file in model.files] == ["m-7B-Q4_K_M.gguf", *drafts]
    assert model.draft_path == model.files[1].target
    assert (await manager.download(SPLIT, drafts[1])).name == drafts[0]


def test_a_later_download_without_the_projector_keeps_it(manager: DownloadManager) -> None:
    manager.sync.download("demo/vision-GGUF", companions=("mmproj",))
    projector = manager.sync.find_model("vision").projector_path

    manager.sync.download("demo/vision-GGUF")

    assert projector is not None
    assert manager.sync.find_model("vision").projector_path == projector


def test_a_download_to_the_models_folder_takes_no_projector_of_another_program(
    manager: DownloadManager, tmp_path: Path
) -> None:
    manager.sync.download("demo/vision-GGUF", companions=("mmproj",))
    manager.sync.forget("vision")
    manager.config.models_directory.rename(tmp_path / "lmstudio")
    manager.sync.import_folder(tmp_path / "lmstudio")

    manager.sync.download("demo/vision-GGUF")

    assert manager.sync.find_model("vision").projector_path is None
