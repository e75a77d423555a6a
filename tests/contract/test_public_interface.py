"""The public interface for a Python user: completion, how values are displayed, how a manager is made."""

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import gglib_nb
from gglib_nb import (
    DownloadManager,
    DownloadManagerConfig,
    DownloadRequest,
    InvalidConfigError,
    ManagerClosedError,
    RequestError,
)
from gglib_nb.manager.manager import SyncOperations
from tests.support.faulty_hub import FaultyHub

SMALL = "demo/small-GGUF"
PORT = {
    "queue_download", "queue_and_process", "queue_smart", "get_queue_snapshot", "cancel_download", "cancel_all",
    "has_download", "active_count", "pending_count", "remove_from_queue", "reorder_queue", "cancel_group", "retry",
    "clear_failed", "set_max_queue_size", "get_max_queue_size", "pause", "resume", "set_bandwidth_limit", "wait", "join",
    "events", "download", "aclose",
}  # fmt: skip
BESIDE = {
    "config", "sync", "snapshot", "engine", "engine_pid", "is_closed", "close", "aclose", "events", "submit", "subscribe",
    "subscribe_events",
}  # fmt: skip


def test_completion_offers_exactly_the_public_attributes(manager: DownloadManager) -> None:
    operations = {
        name for name, _ in inspect.getmembers(SyncOperations, inspect.isfunction) if not name.startswith("_")
    }

    assert set(dir(manager)) == (operations - {"close"}) | BESIDE
    assert set(dir(manager)) >= PORT
    assert all(hasattr(manager, name) for name in dir(manager))


def test_completion_on_sync_offers_exactly_its_operations(manager: DownloadManager) -> None:
    assert set(dir(manager.sync)) == (set(dir(manager)) - BESIDE) | {"close"}


async def test_the_repr_of_a_manager_and_a_snapshot_is_one_useful_line(
    manager: DownloadManager, held: FaultyHub, tmp_path: Path
) -> None:
    empty = repr(manager.snapshot)
    await manager.queue_smart(SMALL, "Q4_K_M")
    await manager.queue_smart(SMALL, "Q8_0")
    await manager.pause("Q8_0")

    assert empty == "<QueueSnapshot: empty>"
    assert repr(manager.snapshot) == "<QueueSnapshot: 1 active, 1 paused>"
    assert repr(manager) == f"<DownloadManager: 1 active, 1 paused; models in {tmp_path / 'models'}>"


async def test_a_manager_and_a_snapshot_are_displayed_as_a_table(manager: DownloadManager) -> None:
    await manager.queue_download(DownloadRequest(SMALL, "Q4_K_M"))

    assert "<table" in manager.snapshot._repr_html_()
    assert manager._repr_html_() == manager.snapshot._repr_html_()


def test_a_manager_accepts_the_fields_of_its_configuration(hub: FaultyHub, tmp_path: Path) -> None:
    places = {"models_directory": tmp_path, "state_directory": tmp_path / "state", "endpoint": hub.url}

    with DownloadManager(DownloadManagerConfig(**places, max_queue_size=3), max_queue_size=4) as manager:
        assert manager.sync.get_max_queue_size() == 4
    with DownloadManager(**places, max_concurrent=2) as manager:
        assert manager.snapshot.max_concurrent == 2

    assert manager.is_closed


def test_an_unknown_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="has no setting max_concurent; it has models_directory, "):
        DownloadManager(max_concurent=2)
    with pytest.raises(InvalidConfigError, match="max_concurrent"):
        DownloadManager(max_concurrent=0)


def test_download_and_its_sync_form_accept_every_field_of_a_request() -> None:
    fields = ["repo_id", "quantization", "revision", "force", "add_to_db", "companions", "everywhere", "to", "then"]

    assert list(DownloadRequest.__struct_fields__) == fields
    for function in (gglib_nb.download, gglib_nb.download_sync):
        assert list(inspect.signature(function).parameters) == [*fields, "progress"]
    assert inspect.iscoroutinefunction(gglib_nb.download)
    assert not inspect.iscoroutinefunction(gglib_nb.download_sync)


@pytest.mark.parametrize("status", ["bogus", "queued", ""])
async def test_an_unknown_outcome_is_refused_with_the_valid_ones(manager: DownloadManager, status: str) -> None:
    with pytest.raises(RequestError, match="completed, failed, cancelled"):
        await manager.clear_ended(status)


async def test_an_event_stream_starts_with_the_call_and_not_with_the_first_read(manager: DownloadManager) -> None:
    events = manager.events()
    await manager.download(SMALL, "Q4_K_M", progress=False)

    first = await anext(events)

    assert isinstance(first, gglib_nb.SnapshotChanged)
    assert any([isinstance(await anext(events), gglib_nb.DownloadStarted) for _ in range(3)])


async def test_every_reader_of_one_event_stream_gets_an_answer(manager: DownloadManager) -> None:
    events = manager.events()
    await anext(events)
    readers = [asyncio.ensure_future(anext(events)) for _ in range(3)]
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(anext(events), 0.01)

    await manager.aclose()
    await asyncio.wait(readers, timeout=60)

    assert [reader.done() for reader in readers] == [True] * 3
    assert not events._readers  # type: ignore[attr-defined]
    for reader in readers:
        reader.exception()


async def test_a_dropped_event_stream_receives_no_more_events(manager: DownloadManager) -> None:
    events = manager.events()
    await anext(events)
    listening = len(manager._parts.queue._event_listeners)

    del events
    await manager.get_queue_snapshot()

    assert len(manager._parts.queue._event_listeners) == listening - 1


def test_a_listener_that_waits_for_an_operation_gets_an_explanation(
    make_manager: Callable[..., DownloadManager], caplog: pytest.LogCaptureFixture
) -> None:
    manager = make_manager()
    manager.subscribe(lambda _snapshot: manager.sync.pause_all())

    manager.sync.set_max_queue_size(5)
    manager.sync.close()

    assert "must not wait for an operation" in caplog.text


def test_submit_returns_a_future_at_once(manager: DownloadManager) -> None:
    future = manager.submit(manager.sync.queue_smart, SMALL, "Q4_K_M")

    assert future.result(timeout=60).shard_count == 1
    manager.close()
    with pytest.raises(ManagerClosedError):
        manager.submit(manager.sync.pause_all).result(timeout=60)


def test_run_refuses_a_loop_of_another_library_because_it_cannot_be_re_entered(
    manager: DownloadManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loop(asyncio.AbstractEventLoop):
        """A loop as that of uvloop, which is no subclass of asyncio's."""

    monkeypatch.setattr(asyncio, "get_running_loop", Loop)

    with pytest.raises(InvalidConfigError, match="Use `await`"):
        gglib_nb.run(manager.active_count())


def test_close_takes_a_time(make_manager: Callable[..., DownloadManager]) -> None:
    first, second = make_manager(), make_manager()

    first.close(timeout_s=1.0)
    second.sync.close(timeout_s=1.0)

    assert first.is_closed
    assert second.is_closed
