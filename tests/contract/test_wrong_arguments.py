"""A wrong argument of any public call is refused in one sentence, with a public error, and changes nothing."""

import inspect
import math
import os
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

import gglib_nb
from gglib_nb import (
    DownloadManager,
    DownloadManagerConfig,
    DownloadRequest,
    GglibError,
    InvalidConfigError,
    StorageError,
)
from gglib_nb.manager.manager import SyncOperations
from tests.support.faulty_hub import FaultyHub
from tests.support.partials import write_journal

SMALL, Q4, Q8 = "demo/small-GGUF", "demo/small-GGUF:Q4_K_M", "demo/small-GGUF:Q8_0"
HUGE = 10**30


async def later(_: object) -> None:
    """A callable that returns before it has done anything."""


class Later:
    """An object whose call does the same."""

    async def __call__(self, _: object) -> None:
        pass


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("queue_smart", {"repo_id": None}),
    ("queue_smart", {"repo_id": b"demo/small-GGUF"}),
    ("queue_smart", {"repo_id": Path(SMALL)}),
    ("queue_smart", {"repo_id": "\ud800/x"}),
    ("queue_smart", {"repo_id": SMALL, "quantization": 4}),
    ("queue_smart", {"repo_id": SMALL, "quantization": b"Q4_K_M"}),
    ("queue_smart", {"repo_id": SMALL, "revision": 1}),
    ("queue_smart", {"repo_id": SMALL, "force": "yes"}),
    ("queue_smart", {"repo_id": SMALL, "add_to_db": "no"}),
    ("queue_smart", {"repo_id": SMALL, "companions": "mmproj"}),
    ("queue_smart", {"repo_id": SMALL, "companions": None}),
    ("queue_smart", {"repo_id": SMALL, "companions": [1]}),
    ("queue_smart", {"repo_id": SMALL, "to": 5}),
    ("queue_smart", {"repo_id": SMALL, "to": b"/tmp"}),
    ("queue_smart", {"repo_id": SMALL, "to": "/tmp/\udcff"}),
    ("queue_smart", {"repo_id": SMALL, "then": 5}),
    ("queue_smart", {"repo_id": SMALL, "then": later}),
    ("download", {"repo_id": SMALL, "progress": "bar"}),
    ("queue_smart", {"repo_id": SMALL, "then": Later()}),
    ("download", {"repo_id": SMALL, "progress": later}),
    ("download", {"repo_id": SMALL, "progress": Later()}),
    ("queue_download", {"request": SMALL}),
    ("queue_download", {"request": None}),
    ("queue_download", {"request": DownloadRequest(SMALL, force="yes")}),  # type: ignore[arg-type]
    ("queue_download", {"request": DownloadRequest(SMALL, then=later)}),
    ("queue_and_process", {"request": DownloadRequest(5)}),  # type: ignore[arg-type]
    ("cancel_download", {"id": None}),
    ("cancel_download", {"id": 1}),
    ("cancel_download", {"id": Q8, "discard": "no"}),
    ("cancel_group", {"group_id": 1}),
    ("has_download", {"id": Path(Q8)}),
    ("wait", {"id": 1}),
    ("reorder_queue", {"id": Q8, "new_position": "2"}),
    ("reorder_queue", {"id": Q8, "new_position": None}),
    ("reorder_queue", {"id": Q8, "new_position": 1.5}),
    ("reorder_queue", {"id": Q8, "new_position": math.nan}),
    ("reorder_queue", {"id": Q8, "new_position": True}),
    ("clear_ended", {"status": 5}),
    ("clear_failed", {"id": 5}),
    ("set_max_queue_size", {"max_size": "3"}),
    ("set_max_queue_size", {"max_size": HUGE}),
    ("set_max_concurrent", {"max_concurrent": HUGE}),
    ("set_bandwidth_limit", {"bytes_per_second": math.nan}),
    ("set_bandwidth_limit", {"bytes_per_second": HUGE}),
    ("set_network_wait", {"network_wait_s": HUGE}),
    ("set_max_connections", {"max_connections": 2.0}),
    ("set_download_hours", {"hours": 22}),
    ("plan", {"repo_id": 5}),
    ("plan", {"repo_id": SMALL, "cache_type": "bogus"}),
    ("plan", {"repo_id": SMALL, "context": 1.5}),
    ("search", {"words": None}),
    ("search", {"words": "\ud800"}),
    ("plan", {"repo_id": SMALL, "revision": "\ud800"}),
    ("plan", {"repo_id": SMALL, "quantization": "\ud800"}),
    ("search", {"limit": -1}),
    ("search", {"limit": "3"}),
    ("search", {"max_parameters": "7B"}),
    ("search", {"max_parameters": -1}),
    ("path", {"id": None}),
    ("find_model", {"id": 1}),
    ("loading_lines", {"id": Q4, "program": 5}),
    ("write_preset", {"file": 5}),
    ("write_preset", {"file": "a\0b"}),
    ("write_preset", {"file": ""}),
    ("inspect", {"id": None}),
    ("export", {"ids": 5, "folder": "/tmp/x"}),
    ("export", {"ids": [5], "folder": "/tmp/x"}),
    ("export", {"ids": Q4, "folder": None}),
    ("import_folder", {"folder": 5}),
    ("import_folder", {"folder": "/tmp", "on_progress": 5}),
    ("verify", {"id": Q4, "on_progress": 5}),
    ("verify", {"id": Q4, "on_progress": later}),
    ("prune", {"keep_bytes": -1}),
    ("prune", {"keep_bytes": "0"}),
    ("prune", {"unused_s": -1}),
    ("prune", {"unused_s": math.nan}),
    ("prune", {"unused_s": Decimal(0)}),
    ("prune", {"keep_bytes": 0, "dry_run": "yes"}),
    ("delete", {"id": Q4, "dry_run": "no"}),
    ("update", {"id": Q4, "keep": "yes"}),
    ("discard_partials", {"targets": "x"}),
    ("discard_partials", {"targets": [5]}),
    ("discard_partials", {"targets": ["\ud800"]}),
    ("queue_partials", {"targets": ["\ud800"]}),
    ("queue_partials", {"targets": "x"}),
    ("log_in", {"token": b"hf_secretsecret"}),
    ("close", {"timeout_s": math.nan}),
    ("close", {"timeout_s": "1"}),
]


@pytest.fixture
def busy(manager: DownloadManager, hub: FaultyHub) -> DownloadManager:
    """A manager with a model, and a waiting download."""
    manager.sync.download(SMALL, "Q4_K_M", progress=False)
    manager.sync.queue_download(DownloadRequest(SMALL, "Q8_0"))
    return manager


def test_every_wrong_argument_is_refused_and_changes_nothing(busy: DownloadManager, tmp_path: Path) -> None:
    def state() -> object:
        seen = busy.sync.get_queue_snapshot()
        return [(str(item.id), item.position, item.status) for item in seen.items], seen.resolving, busy.is_closed

    before, wrong = state(), []
    for name, arguments in WRONG:
        try:
            busy.submit(getattr(busy.sync, name), **arguments).result(timeout=60)
        except GglibError as error:
            if len(str(error).splitlines()) != 1 or "secret" in str(error) or state() != before:
                wrong.append((name, arguments, repr(error)))
        except BaseException as error:  # noqa: BLE001 - of any kind
            wrong.append((name, arguments, repr(error)))
        else:
            wrong.append((name, arguments, "accepted"))

    assert wrong == []
    assert state() == before
    assert [model.id for model in busy.sync.models()] == [Q4]
    busy.sync.run_now(Q8)
    assert busy.sync.wait(Q8).paths[0].exists()


async def test_a_coroutine_names_the_argument_and_its_types(manager: DownloadManager) -> None:
    with pytest.raises(InvalidConfigError, match=r"^new_position is '2'; it must be int\.$"):
        await manager.reorder_queue(Q8, "2")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfigError, match=r"^cache_type is 'x'; it must be Literal\['f16', 'q8_0', 'q4_0'\]\.$"):
        await manager.plan(SMALL, cache_type="x")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfigError, match=r"^request.revision is 5; it must be str \| None\.$"):
        await manager.queue_download(DownloadRequest(SMALL, revision=5))  # type: ignore[arg-type]


async def test_an_unknown_argument_is_refused_before_a_thread_runs_and_the_known_ones_are_named(
    manager: DownloadManager,
) -> None:
    said = r"^cancel_download: got an unexpected keyword argument 'keep'\. It takes: id, discard\.$"
    with pytest.raises(TypeError, match=said) as at_once:
        manager.sync.cancel_download(Q8, keep=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=said) as awaited:
        await manager.cancel_download(Q8, keep=True)  # type: ignore[call-arg]

    for raised in (at_once, awaited):
        assert [Path(frame.path).name for frame in raised.traceback] == [Path(__file__).name, "calls.py", "calls.py"]


def test_a_partial_file_of_a_queued_download_is_kept_whatever_names_it(busy: DownloadManager) -> None:
    target = busy.config.models_directory / SMALL / "small-Q8_0.gguf"
    part = target.with_name(f"{target.name}.part")
    part.write_bytes(b"begun")
    write_journal(target)

    with pytest.raises(InvalidConfigError):
        busy.sync.discard_partials([target])  # type: ignore[list-item]
    assert busy.sync.discard_partials(["", "/"]) == frozenset()
    busy.sync.discard_partials([str(target)])

    assert part.exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"hf_token": 5}, {"hf_token": b"hf_secretsecret"}, {"max_concurrent": HUGE}, {"storage_limit_bytes": HUGE},
        {"network_wait_s": HUGE}, {"activity_interval_s": HUGE}, {"models_directory": "/models/\udcff"},
        {"hub_cache": Path("/cache/\udcff")}, {"models_directory": b"/models"}, {"endpoint": 5}, {"mirrors": [None]},
        {"model_stores": [5]}, {"download_hours": []}, {"is_offline": "yes"},
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfigError) as refusal:
        DownloadManagerConfig(**settings)

    assert len(str(refusal.value).splitlines()) == 1
    assert "secret" not in str(refusal.value)


def test_a_folder_in_place_of_a_configuration_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="config is '/models'; it must be DownloadManagerConfig"):
        DownloadManager("/models")  # type: ignore[arg-type]


def test_a_call_without_a_thread_is_refused(manager: DownloadManager, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    with pytest.raises(GglibError, match="This was not done: can't create new thread"):
        manager.sync.models()


def test_an_empty_revision_is_the_default_branch(manager: DownloadManager) -> None:
    id_ = manager.sync.queue_download(DownloadRequest(SMALL, "Q4_K_M", ""))

    assert str(id_) == Q4
    assert manager.sync.has_download(f"{SMALL}@:Q4_K_M")


def test_a_path_to_a_preset_may_begin_with_the_home_folder(
    busy: DownloadManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    written = busy.sync.write_preset("~/models.ini")

    assert written.path == os.path.realpath(tmp_path / "models.ini")


@pytest.mark.parametrize(("text", "shown"), [(1, "1"), (None, "None"), (Path("a"), "a PosixPath")])
def test_the_path_of_a_model_is_asked_by_its_id(text: Any, shown: str) -> None:
    with pytest.raises(InvalidConfigError, match=rf"^text is {shown}; it must be DownloadId \| str\.$"):
        gglib_nb.path(text)


def test_a_preset_replaces_no_pipe(busy: DownloadManager, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(StorageError, match="pipe is not a file; name another file"):
        busy.sync.write_preset(tmp_path / "pipe")

    assert (tmp_path / "pipe").is_fifo()


def test_every_operation_states_types_that_can_be_checked() -> None:
    for name, operation in inspect.getmembers(SyncOperations, inspect.isfunction):
        if not name.startswith("_"):
            assert "return" in get_type_hints(inspect.unwrap(operation)), name


def test_numbers_of_numpy_and_in_the_notation_of_floats_are_accepted(busy: DownloadManager) -> None:
    busy.sync.queue_download(DownloadRequest("demo/vision-GGUF"))

    assert busy.sync.reorder_queue(Q8, np.int64(2)) == 2  # type: ignore[arg-type]
    busy.sync.set_max_queue_size(np.int64(7))  # type: ignore[arg-type]
    busy.sync.cancel_download(Q8, discard=np.bool_(True))  # type: ignore[arg-type]
    busy.sync.search("small", max_parameters=1e12, limit=np.int64(1))  # type: ignore[arg-type]
    assert [one.id for one in busy.sync.prune(keep_bytes=1e3, unused_s=np.float32(9)).models] == [Q4]


@pytest.mark.parametrize("kind", ["subscribe", "subscribe_events"])
def test_an_async_listener_is_refused(manager: DownloadManager, kind: str) -> None:
    with pytest.raises(InvalidConfigError, match=r"^listener is an async function; it must be a plain one, "):
        getattr(manager, kind)(later)


def test_a_coroutine_function_is_not_submitted(manager: DownloadManager) -> None:
    with pytest.raises(InvalidConfigError, match=r"^function is an async function; it must be a plain one, "):
        manager.submit(manager.queue_smart, SMALL)
