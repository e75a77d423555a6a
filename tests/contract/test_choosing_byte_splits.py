"""Raw byte splits become one joined, verified GGUF file under the name of the whole."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gglib_nb import DownloadManager, DownloadStatus, IncompleteShardSetError, IntegrityError
from tests.support.faulty_hub import FaultyHub, WrongBytes
from tests.support.hub import make_repository
from tests.support.pieces import cut, gguf_bytes

REPO = "demo/cut-GGUF"
STYLES = {
    "mradermacher": [f"m.Q8_0.gguf.part{number}of3" for number in (1, 2, 3)],
    "TheBloke": [f"m.Q8_0.gguf-split-{letter}" for letter in "abc"],
    "chunks": [f"m.Q8_0-chunk-{number:03}-of-018.gguf" for number in range(1, 19)],
    "split(1)": [f"m.Q8_0.gguf.a{letter}" for letter in "abc"],
    "in a folder": [f"Q8_0/m.Q8_0.gguf.part{number}of2" for number in (1, 2)],
}


def target(models: Path, style: str) -> Path:
    folder = "Q8_0" if style == "in a folder" else ""
    return models / REPO / folder / "m.Q8_0.gguf"


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
async def test_the_parts_become_one_verified_file(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path, style: str
) -> None:
    whole = gguf_bytes()
    hub.add_repository(make_repository(REPO, cut(whole, STYLES[style])))

    queued = await manager.queue_smart(REPO, "Q8_0")
    finished = await manager.wait(queued.id)

    assert str(queued.id) == f"{REPO}:Q8_0"
    assert queued.shard_count == len(STYLES[style])
    assert finished.paths == (target(tmp_path / "models", style),)
    assert finished.is_verified
    assert finished.paths[0].read_bytes() == whole
    assert [file.name for file in finished.paths[0].parent.iterdir() if not file.is_dir()] == ["m.Q8_0.gguf"]


async def test_the_joined_file_is_registered_as_a_model(manager: DownloadManager, hub: FaultyHub) -> None:
    whole = gguf_bytes()
    hub.add_repository(make_repository(REPO, cut(whole, STYLES["TheBloke"])))

    path = await manager.download(REPO)

    [model] = manager.catalog.models()
    [file] = model.files
    assert (file.size_bytes, file.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert model.facts["architecture"] == "llama"
    assert manager.catalog.find(f"{REPO}:Q8_0").paths == (str(path),)


async def test_only_a_wrong_part_is_downloaded_again(manager: DownloadManager, hub: FaultyHub, tmp_path: Path) -> None:
    whole = gguf_bytes()
    first, second, third = STYLES["mradermacher"]
    parts = cut(whole, [first, second, third])
    hub.add_repository(make_repository(REPO, parts))
    hub.faults.add(WrongBytes(at_byte=100), path=f"*{second}", origin="cdn", times=1)

    path = await manager.download(REPO)

    assert path.read_bytes() == whole
    assert hub.bytes_sent(second) == 2 * len(parts[second])
    assert hub.bytes_sent(first) == len(parts[first])
    assert hub.bytes_sent(third) == len(parts[third])


async def test_a_part_that_stays_wrong_fails_and_leaves_no_final_file(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    hub.add_repository(make_repository(REPO, cut(gguf_bytes(), STYLES["mradermacher"])))
    fault = hub.faults.add(WrongBytes(at_byte=100), path=f"*{STYLES['mradermacher'][1]}", origin="cdn", times=None)

    queued = await manager.queue_smart(REPO)
    with pytest.raises(IntegrityError, match="part2of3"):
        await manager.wait(queued.id)

    assert not target(tmp_path / "models", "mradermacher").exists()
    assert manager.catalog.models() == []
    hub.faults.remove(fault)
    await manager.retry(queued.id)
    assert (await manager.wait(queued.id)).is_verified


async def test_existing_parts_are_not_downloaded_again(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.add_repository(make_repository(REPO, cut(gguf_bytes(), STYLES["chunks"])))
    await manager.download(REPO)
    before = hub.bytes_sent()

    queued = await manager.queue_smart(REPO)
    finished = await manager.wait(queued.id)

    assert finished.was_present
    assert hub.bytes_sent() == before


async def test_every_part_has_its_own_bar(manager: DownloadManager, hub: FaultyHub) -> None:
    parts = cut(gguf_bytes(), STYLES["mradermacher"])
    hub.add_repository(make_repository(REPO, parts))
    hub.set_speed(bytes_per_second=0)

    await manager.queue_smart(REPO)
    [item] = (await manager.get_queue_snapshot()).items
    hub.set_speed()
    await manager.join()

    assert [(bar.path_in_repo, bar.size_bytes) for bar in item.shards] == [(path, len(parts[path])) for path in parts]
    assert item.total_bytes == len(gguf_bytes())


@pytest.mark.slow
async def test_a_cancelled_joined_file_resumes_where_it_stopped(
    make_manager: Callable[..., DownloadManager], hub: FaultyHub
) -> None:
    whole = gguf_bytes(size_bytes=1_000_000)
    hub.add_repository(make_repository(REPO, cut(whole, STYLES["mradermacher"])))
    hub.set_speed(bytes_per_second=300_000)
    manager = make_manager()
    queued = await manager.queue_smart(REPO)
    hub.wait_for(lambda _records: hub.bytes_sent() > 300_000)
    hub.set_speed(0)
    ended = manager.submit(manager.sync.wait, queued.id)
    await manager.cancel_download(queued.id)
    ended.exception(timeout=60)
    hub.set_speed()

    path = await manager.download(REPO)

    assert path.read_bytes() == whole
    assert hub.bytes_sent() < 1_900_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("paths", "missing"),
    [
        (["m.Q8_0.gguf.part1of3", "m.Q8_0.gguf.part3of3"], (2,)),
        (["m.Q8_0.gguf-split-a", "m.Q8_0.gguf-split-c"], (2,)),
        (["m.Q8_0-chunk-002-of-003.gguf"], (1, 3)),
        (["m.Q8_0.gguf-split-a"], (2,)),
    ],
)
async def test_a_set_with_a_missing_part_is_refused_by_name_before_any_byte_is_downloaded(
    manager: DownloadManager, hub: FaultyHub, paths: list[str], missing: tuple[int, ...]
) -> None:
    hub.add_repository(make_repository(REPO, cut(gguf_bytes(), paths)))

    with pytest.raises(IncompleteShardSetError, match=f"^{REPO} is missing .* of Q8_0 ") as refusal:
        await manager.queue_smart(REPO, "Q8_0")

    assert refusal.value.missing == missing
    assert manager.snapshot.items == ()
    assert hub.bytes_sent() == 0


async def test_a_single_file_named_part_one_of_one_is_stored_under_a_model_name(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    hub.add_repository(make_repository(REPO, {"m.Q8_0.gguf.part1of1": gguf_bytes()}))

    path = await manager.download(REPO)

    assert path.name == "m.Q8_0.gguf"
    assert manager.snapshot.recent_completed[0].status is DownloadStatus.COMPLETED
