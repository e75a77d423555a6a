"""Verifying models: the real engine hashes real files, reports damage, and the catalog records the result."""

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from gglib_nb import DownloadManager, EngineLostError, ModelNotFoundError
from gglib_nb.domain.library import BLOCK_BYTES, WorkProgress
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import DownloadId
from tests.support.catalog_models import stored
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository

LARGE = "demo/large-GGUF"
SIZE = 3 * BLOCK_BYTES + 1000


@pytest.fixture
def path(manager: DownloadManager, hub: FaultyHub) -> Path:
    """A model of four blocks, the last one short."""
    hub.add_repository(make_repository(LARGE, {"large-Q4_K_M.gguf": SIZE}))
    return manager.sync.download(LARGE)


def spoil(path: Path, at: int, size_bytes: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        before = file.read(size_bytes)
        file.seek(at)
        file.write(bytes(byte ^ 0xFF for byte in before))


def test_an_intact_model_is_reported_with_the_time_of_verification(manager: DownloadManager, path: Path) -> None:
    before = manager.sync.models()[0].verified_at_s

    verification = manager.sync.verify("large")

    assert verification.is_right
    assert [file.verdict for file in verification.files] == ["right"]
    [row] = manager.sync.models()
    assert row.state == "verified"
    assert row.verified_at_s is not None
    assert before is not None
    assert row.verified_at_s > before


@pytest.mark.slow
def test_a_touched_file_is_verified_again(manager: DownloadManager, path: Path) -> None:
    os.utime(path)
    assert manager.sync.models()[0].state == "changed"

    manager.sync.verify("large")

    assert manager.sync.models()[0].state == "verified"


def test_a_wrong_byte_is_located_to_its_block_and_recorded(manager: DownloadManager, path: Path) -> None:
    spoil(path, 2 * BLOCK_BYTES + 77)

    verification = manager.sync.verify("large")

    assert not verification.is_right
    [fault] = verification.faults
    assert (fault.path, fault.verdict) == (str(path), "wrong")
    assert fault.wrong_ranges == ((2 * BLOCK_BYTES, 3 * BLOCK_BYTES),)
    [model] = manager.catalog.models()
    assert model.files[0].wrong_ranges == fault.wrong_ranges
    assert manager.sync.models()[0].state == "wrong"


@pytest.mark.slow
def test_without_an_index_the_whole_file_is_reported_as_wrong(manager: DownloadManager, path: Path) -> None:
    other = stored(str(path), SIZE, sha256="b" * 64)
    manager.catalog.register(Model(DownloadId("x/y", "Q4"), None, None, (other,), 1.0))
    assert manager.catalog.block_digests("b" * 64) == ""

    verification = manager.sync.verify("x/y")

    assert verification.faults[0].wrong_ranges == ()


@pytest.mark.slow
def test_a_truncated_file_is_reported_with_its_missing_end(manager: DownloadManager, path: Path) -> None:
    os.truncate(path, BLOCK_BYTES + 5)

    [fault] = manager.sync.verify("large").faults

    assert fault.wrong_ranges == ((BLOCK_BYTES, SIZE),)


@pytest.mark.slow
def test_a_missing_file_is_reported(manager: DownloadManager, path: Path) -> None:
    path.unlink()

    assert [file.verdict for file in manager.sync.verify("large").files] == ["missing"]
    assert manager.sync.models()[0].state == "missing"


@pytest.mark.slow
def test_without_a_known_digest_the_first_hash_is_the_reference_for_later_ones(
    manager: DownloadManager, tmp_path: Path
) -> None:
    file = tmp_path / "own.gguf"
    file.write_bytes(b"x" * 5000)
    unknown = stored(str(file), 5000, sha256=None, is_verified=False, mtime_ns=file.stat().st_mtime_ns)
    manager.catalog.register(Model(DownloadId("local/own"), None, None, (unknown,), 1.0, "local"))

    first = manager.sync.verify("own")
    second = manager.sync.verify("own")
    spoil(file, 10)
    third = manager.sync.verify("own")

    assert [one.files[0].verdict for one in (first, second, third)] == ["unstated", "right", "wrong"]
    assert third.faults[0].wrong_ranges == ((0, 5000),)


@pytest.mark.slow
def test_all_models_are_verified_together_and_a_shared_file_once(manager: DownloadManager, path: Path) -> None:
    manager.sync.download("demo/vision-GGUF", companions=("mmproj",))
    reached: list[WorkProgress] = []

    found = manager.sync.verify_all(on_progress=reached.append)

    assert {one.id: one.is_right for one in found} == {
        "demo/large-GGUF:Q4_K_M": True,
        "demo/vision-GGUF:Q4_K_M": True,
    }
    assert reached[-1].total_bytes == SIZE + 80_000


def test_an_unknown_model_is_not_verified(manager: DownloadManager) -> None:
    with pytest.raises(ModelNotFoundError):
        manager.sync.verify("nothing")


def long_model(manager: DownloadManager, tmp_path: Path) -> None:
    """A model that takes many seconds to hash and no space on the disk."""
    path = tmp_path / "long.gguf"
    path.touch()
    os.truncate(path, 40 * 10**9)
    manager.catalog.register(
        Model(DownloadId("local/long"), None, None, (stored(str(path), 40 * 10**9),), 1.0, "local")
    )


def test_a_verification_fails_if_the_engine_ends(manager: DownloadManager, tmp_path: Path) -> None:
    long_model(manager, tmp_path)
    begun = threading.Event()
    verifying = manager.submit(manager.sync.verify, "long", on_progress=lambda _: begun.set())
    assert begun.wait(30)
    pid = manager.engine_pid
    assert pid is not None

    os.kill(pid, signal.SIGKILL)

    with pytest.raises(EngineLostError, match="verify again"):
        verifying.result(60)


async def test_cancelling_a_verification_stops_reading_and_changes_nothing(
    manager: DownloadManager, tmp_path: Path, path: Path
) -> None:
    long_model(manager, tmp_path)
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = manager.catalog.models()
    verifying = asyncio.ensure_future(
        manager.verify("long", on_progress=lambda _: loop.call_soon_threadsafe(begun.set))
    )
    await asyncio.wait_for(begun.wait(), 20)

    verifying.cancel()

    with pytest.raises(asyncio.CancelledError):
        await verifying
    assert manager.catalog.models() == before
    assert (await manager.verify("large")).is_right


@pytest.mark.slow
def test_a_model_is_verified_while_another_is_downloaded(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    hub.set_speed(bytes_per_second=0)
    manager.sync.queue_smart("demo/small-GGUF", "Q4_K_M")
    assert manager.snapshot.active_count == 1

    assert manager.sync.verify("large").is_right

    hub.set_speed()
    manager.sync.join()
    assert len(manager.sync.models()) == 2


@pytest.mark.slow
def test_progress_is_reported_on_a_thread_of_the_manager(manager: DownloadManager, path: Path) -> None:
    threads: list[str] = []

    manager.sync.verify("large", on_progress=lambda _: threads.append(threading.current_thread().name))

    assert threads
    assert threading.current_thread().name not in threads


def test_a_pipe_in_place_of_a_file_does_not_block_verification(manager: DownloadManager, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    pipe = stored(str(tmp_path / "pipe.gguf"), 10)
    manager.catalog.register(Model(DownloadId("local/pipe"), None, None, (pipe,), 1.0, "local"))

    [fault] = manager.sync.verify("pipe").faults

    assert (fault.verdict, fault.reason) == ("unreadable", "it is not a file")


@pytest.mark.parametrize("operation", ["verify", "repair"])
def test_a_callback_that_raises_ends_only_its_own_operation(
    manager: DownloadManager, hub: FaultyHub, path: Path, operation: str
) -> None:
    def fail(_progress: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        getattr(manager.sync, operation)("large", on_progress=fail)

    assert manager.sync.verify("large").is_right
    assert manager.sync.download("demo/small-GGUF").is_file()
