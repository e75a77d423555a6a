"""Read-only stores of other programs, and the storage limit, with real folders, a real catalog and the embedded hub."""

import asyncio
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gglib_nb import DiskFullError, DownloadManager, ModelNotFoundError, RequestError, StorageError
from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.model import Model
from gglib_nb.domain.stored import RestoredDownload, StoredLimits
from gglib_nb.errors import GatedRepoError
from gglib_nb.manager import operations
from gglib_nb.manager.followups import retry_granted
from gglib_nb.manager.importing import Stores
from gglib_nb.manager.library import bytes_of
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verbs import parse
from gglib_nb.queue import events as on
from gglib_nb.queue.machine import QueueMachine
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import small_gguf


def gguf(name: str) -> bytes:
    return b"".join(bytes(piece) for piece in small_gguf(name, 4_000).slices())


@pytest.fixture
def lmstudio(tmp_path: Path) -> Path:
    """A folder in LM Studio's layout."""
    path = tmp_path / "lmstudio" / "owner" / "lab-GGUF" / "lab-Q4_K_M.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(gguf(path.name))
    return tmp_path / "lmstudio"


@pytest.fixture
def ollama(tmp_path: Path) -> Path:
    """A folder in Ollama's layout, with a model of its library and one from the Hub."""
    folder = tmp_path / "ollama"
    for place, name in (("registry.ollama.ai/library/llama3.2/3b", "a"), ("hf.co/owner/tiny-GGUF/Q8_0", "b")):
        data = gguf(f"{name}.gguf")
        digest = hashlib.sha256(data).hexdigest()
        blob, manifest = folder / "blobs" / f"sha256-{digest}", folder / "manifests" / place
        for path in (blob, manifest):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": len(data)}
        manifest.write_text(json.dumps({"layers": [layer]}))
    return folder


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


def test_models_of_stores_are_listed_found_and_loaded_and_never_registered(
    make_manager: Callable[..., DownloadManager], lmstudio: Path, ollama: Path
) -> None:
    manager = make_manager(model_stores=(lmstudio, ollama))
    before = listing(lmstudio), listing(ollama)

    rows = {row.id: row for row in manager.sync.models()}

    assert set(rows) == {"owner/lab-GGUF:Q4_K_M", "local/llama3.2:3b", "owner/tiny-GGUF:Q8_0"}
    assert {row.origin for row in rows.values()} == {"store"}
    assert manager.sync.path("lab") == lmstudio / "owner/lab-GGUF/lab-Q4_K_M.gguf"
    assert manager.sync.path("llama3.2").parent == ollama / "blobs"
    assert manager.sync.inspect("tiny").architecture == "llama"
    assert manager.catalog.models() == []
    assert (listing(lmstudio), listing(ollama)) == before


def test_a_model_of_a_store_can_be_exported_and_imported_elsewhere(
    make_manager: Callable[..., DownloadManager], lmstudio: Path, tmp_path: Path
) -> None:
    make_manager(model_stores=(lmstudio,)).sync.export("lab", tmp_path / "bundle")
    other = make_manager(models_directory=tmp_path / "other", state_directory=tmp_path / "elsewhere").sync

    other.import_folder(tmp_path / "bundle")

    assert other.path("owner/lab-GGUF:Q4_K_M").read_bytes() == gguf("lab-Q4_K_M.gguf")


def test_the_hub_is_not_asked_about_a_model_of_ollamas_own(
    make_manager: Callable[..., DownloadManager], ollama: Path, hub: FaultyHub, tmp_path: Path
) -> None:
    manager = make_manager(model_stores=(ollama,))
    model = manager.sync.find_model("llama3.2")

    with pytest.raises(RequestError, match=r"repository of local/llama3\.2:3b is unknown"):
        manager.sync.compare("llama3.2")
    manager.sync.export("llama3.2", tmp_path / "bundle")
    Path(model.paths[0]).unlink()
    with pytest.raises(StorageError, match="Restore it first"):
        manager.sync.export("llama3.2", tmp_path / "bundle")
    with pytest.raises(ModelNotFoundError) as missing:
        manager.sync.path("llama3.2")

    assert not re.search("download|forget", str(missing.value))
    assert not hub.requests


def test_a_model_of_a_store_is_never_deleted(make_manager: Callable[..., DownloadManager], lmstudio: Path) -> None:
    manager = make_manager(model_stores=(lmstudio,))

    with pytest.raises(StorageError, match="another program"):
        manager.sync.delete("lab")
    manager.sync.prune(keep_bytes=1)

    assert (lmstudio / "owner/lab-GGUF/lab-Q4_K_M.gguf").exists()
    with pytest.raises(ModelNotFoundError):
        manager.sync.forget("lab")


def test_an_unmounted_store_is_named_and_blocks_nothing(tmp_path: Path, lmstudio: Path) -> None:
    stores = Stores([tmp_path / "gone", lmstudio], list)

    assert [str(model.id) for model in stores.models()] == ["owner/lab-GGUF:Q4_K_M"]
    assert stores.missing == (tmp_path / "gone",)


def test_the_verb_names_an_unmounted_folder(
    make_manager: Callable[..., DownloadManager], tmp_path: Path, lmstudio: Path
) -> None:
    gone = tmp_path / "gone\x1b[31m"
    empty = make_manager(model_stores=(gone,))
    full = make_manager(model_stores=(gone, lmstudio))

    for manager in (empty, full):
        said = parse("models").run(Session(lambda m=manager: m)).text
        assert f"not found: {tmp_path / 'gone'}" in said
        assert "\x1b" not in said
    assert full.sync.disk_use().missing_stores == (str(gone),)
    assert "read-only" in said
    assert [row.store for row in full.sync.models()] == [str(lmstudio)]


def test_a_registered_model_is_not_listed_twice(make_manager: Callable[..., DownloadManager], lmstudio: Path) -> None:
    manager = make_manager(model_stores=(lmstudio,))
    manager.sync.import_folder(lmstudio)

    assert [(row.id, row.origin) for row in manager.sync.models()] == [("owner/lab-GGUF:Q4_K_M", "import")]


def test_an_identical_blob_of_ollama_is_linked_instead_of_downloaded(
    make_manager: Callable[..., DownloadManager], hub: FaultyHub, tmp_path: Path
) -> None:
    first = make_manager(models_directory=tmp_path / "first", state_directory=tmp_path / "first-state")
    data = first.sync.download("demo/small-GGUF", "Q4_K_M").read_bytes()
    blob = tmp_path / "ollama" / "blobs" / f"sha256-{hashlib.sha256(data).hexdigest()}"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(data)
    manager = make_manager(model_stores=(tmp_path / "ollama",))

    path = manager.sync.download("demo/small-GGUF", "Q4_K_M")

    assert path.samefile(blob)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_ollamas_own_folder_is_its_store_too(ollama: Path, tmp_path: Path) -> None:
    ollama.rename(tmp_path / "models")

    ids = {str(model.id) for model in Stores((tmp_path,), list).models()}

    assert ids == {"local/llama3.2:3b", "owner/tiny-GGUF:Q8_0"}


def test_an_import_of_ollamas_store_says_how_its_models_are_listed(
    make_manager: Callable[..., DownloadManager], ollama: Path
) -> None:
    report = make_manager().sync.import_folder(ollama)

    assert [(one.path, "model_stores" in one.reason) for one in report.skipped] == [(str(ollama), True)]


def test_a_pipe_among_ollamas_manifests_blocks_nothing(ollama: Path) -> None:
    (ollama / "manifests/registry.ollama.ai/library/a").mkdir()
    os.mkfifo(ollama / "manifests/registry.ollama.ai/library/a/pipe")

    assert len(Stores((ollama,), list).models()) == 2


def test_a_store_can_be_set_by_a_variable(monkeypatch: pytest.MonkeyPatch, lmstudio: Path, ollama: Path) -> None:
    from gglib_nb import DownloadManagerConfig

    # With an empty entry, as `$OTHERS:folder` has while OTHERS is not set.
    monkeypatch.setenv("GGLIB_MODEL_STORES", f"{os.pathsep}{lmstudio}{os.pathsep}{ollama}{os.pathsep}")

    assert DownloadManagerConfig().model_stores == (lmstudio, ollama)


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(107, "Transport endpoint is not connected")]
)
def test_a_store_on_a_dead_mount_counts_as_missing_and_hides_no_other(
    make_manager: Callable[..., DownloadManager], lmstudio: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    dead, real = lmstudio.parent / "dead", os.stat

    def look(path: object, *args: object, **options: object) -> os.stat_result:
        if isinstance(path, str | Path) and Path(path).is_relative_to(dead):
            raise error
        return real(path, *args, **options)  # type: ignore[arg-type]

    manager = make_manager(model_stores=(dead, lmstudio))
    monkeypatch.setattr(os, "stat", look)

    assert [row.id for row in manager.sync.models()] == ["owner/lab-GGUF:Q4_K_M"]
    assert manager.sync.disk_use().missing_stores == (str(dead),)


def test_a_store_that_hangs_delays_only_the_first_call(lmstudio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gglib_nb.manager.importing._WAIT_S", 1.0)
    hangs = threading.Event()

    def registered() -> list[Model]:
        hangs.wait(60)
        return []

    stores = Stores((lmstudio,), registered)

    begun_s = time.monotonic()
    found = [stores.models() for _ in range(20)]
    took_s = time.monotonic() - begun_s
    hangs.set()

    assert (found, took_s < 15) == ([()] * 20, True)


# The storage limit


async def test_requests_made_at_the_same_time_keep_the_storage_limit_together(
    make_manager: Callable[..., DownloadManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bytes_of_a_slow_disk(*args: Any) -> int:
        found = bytes_of(*args)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(operations, "bytes_of", bytes_of_a_slow_disk)
    manager = make_manager(storage_limit_bytes=600_000)

    requests = (manager.queue_smart("demo/small-GGUF", label) for label in ("Q4_K_M", "Q8_0"))
    answers = await asyncio.gather(*requests, return_exceptions=True)

    assert sum(isinstance(one, DiskFullError) for one in answers) == 1


def test_a_download_over_the_limit_is_refused_with_the_limit(
    make_manager: Callable[..., DownloadManager],
) -> None:
    manager = make_manager(storage_limit_bytes=500_000)
    manager.sync.download("demo/small-GGUF", "Q4_K_M")

    with pytest.raises(DiskFullError, match="storage_limit_bytes") as refusal:
        manager.sync.queue_smart("demo/small-GGUF", "Q8_0")

    assert (refusal.value.needed_bytes, refusal.value.free_bytes) == (500_000, 200_000)
    assert manager.snapshot.items == ()


def test_downloads_that_return_to_the_queue_are_refused_like_new_ones(
    make_manager: Callable[..., DownloadManager],
) -> None:
    manager = make_manager(storage_limit_bytes=500_000)
    manager.sync.queue_download(_request())
    manager.sync.cancel_download("small")
    manager.sync.download("demo/small-GGUF", "Q8_0")

    with pytest.raises(DiskFullError, match=r"more than the\s+storage limit of 500"):
        manager.sync.put_back("Q4")

    assert manager.snapshot.items == ()


def test_a_download_whose_access_was_granted_is_refused_like_a_new_one(
    make_manager: Callable[..., DownloadManager],
) -> None:
    manager = make_manager(storage_limit_bytes=500_000)
    manager.sync.queue_download(_request())
    parts = manager._parts
    [stored] = parts.queue.ask(QueueMachine.stored).result().downloads
    gated = replace(stored, status=DownloadStatus.FAILED, error=GatedRepoError("Gated.", "", "pending"))
    manager.sync.cancel_download("small")
    manager.sync.clear_ended("cancelled")
    manager.sync.download("demo/small-GGUF", "Q8_0")
    restored = RestoredDownload(gated, (0,) * len(stored.plan.files))
    parts.queue.post(on.DownloadsRestored((restored,), StoredLimits(), starts=False)).result()

    with pytest.raises(DiskFullError, match="storage limit"):
        retry_granted(manager.snapshot, lambda _repo_id: None, manager.sync.retry)
    assert manager.snapshot.items == ()


def test_the_plan_shows_the_space_left_by_the_limit(make_manager: Callable[..., DownloadManager]) -> None:
    manager = make_manager(storage_limit_bytes=500_000)
    manager.sync.download("demo/small-GGUF", "Q4_K_M")

    plan = manager.sync.plan("demo/small-GGUF")

    assert (plan.storage_limit_bytes, plan.storage_left_bytes) == (500_000, 200_000)
    assert "200.0 kB left of the storage limit" in parse("plan demo/small-GGUF").run(Session(lambda: manager)).text


def test_a_queued_download_is_joined_whatever_the_limit(
    make_manager: Callable[..., DownloadManager],
) -> None:
    manager = make_manager(storage_limit_bytes=400_000)
    manager.sync.queue_download(_request())

    assert manager.sync.queue_smart("demo/small-GGUF", "Q4_K_M").is_new is False


def test_files_that_are_here_need_no_more_space_and_missing_ones_take_none(
    make_manager: Callable[..., DownloadManager],
) -> None:
    manager = make_manager(storage_limit_bytes=500_000)
    path = manager.sync.download("demo/small-GGUF", "Q4_K_M")

    assert manager.sync.download("demo/small-GGUF", "Q4_K_M") == path
    path.write_bytes(b"spoiled")
    repair = manager.sync.repair("small")
    manager.sync.wait(repair.id)
    assert manager.sync.plan("demo/small-GGUF").storage_left_bytes == 200_000
    path.unlink()
    assert manager.sync.disk_use().models_bytes == 0
    assert manager.sync.download("demo/small-GGUF", "Q8_0").exists()


def _request() -> object:
    from gglib_nb import DownloadRequest

    return DownloadRequest("demo/small-GGUF", "Q4_K_M")


@pytest.mark.parametrize("verb", ["verify", "repair", "update", "updates", "delete"])
def test_a_verb_that_needs_a_model_of_yours_names_the_folder_of_another_program(
    make_manager: Callable[..., DownloadManager], lmstudio: Path, verb: str
) -> None:
    manager = make_manager(model_stores=(lmstudio,))
    before = listing(lmstudio)

    with pytest.raises(StorageError, match="belongs to another program") as refusal:
        parse(f"{verb} lab").run(Session(lambda: manager))

    assert str(lmstudio) in str(refusal.value)
    assert listing(lmstudio) == before


def test_the_plan_marks_variants_over_the_storage_limit(make_manager: Callable[..., DownloadManager]) -> None:
    manager = make_manager(storage_limit_bytes=400_000)

    lines = parse("plan demo/small-GGUF").run(Session(lambda: manager)).text.splitlines()

    marked = [line for line in lines if "over the storage limit" in line]
    assert len(marked) == 1
    assert "Q8_0" in marked[0]


def test_stores_are_searched_once_a_thread_can_be_started(lmstudio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    stores = Stores([lmstudio], list)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert stores.models() == ()

    assert len(stores.models()) == 1


def test_the_thread_of_a_search_ends_with_it(lmstudio: Path) -> None:
    before = set(threading.enumerate())

    assert len(Stores([lmstudio], list).models()) == 1

    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()
