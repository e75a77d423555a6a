"""Importing folders of other programs: real files in their layouts; nothing is moved, and skipped files are reported."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gglib_nb import DownloadManager, GglibError, ImportReport, StorageError
from gglib_nb.demo.gguf_writer import Tensor, Value, gguf_content
from gglib_nb.domain.library import WorkProgress
from gglib_nb.notebook import listings, results
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository, small_gguf

COMMIT, OLDER = "c" * 40, "d" * 40


def write(folder: Path, path: str, size_bytes: int = 4_000) -> Path:
    """A valid GGUF file; a shard's name makes it a shard."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"".join(bytes(piece) for piece in small_gguf(target.name, size_bytes).slices()))
    return target


def cached(cache: Path, repo: str, commit: str, path: str, *, sha256: str) -> Path:
    """A file as huggingface_hub stores it: a link into `blobs`."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    blob = folder / "blobs" / sha256
    if not blob.exists():
        write(folder / "blobs", "x.gguf").rename(blob)
    link = folder / "snapshots" / commit / path
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return link


def ids(report: ImportReport) -> list[str]:
    return sorted(model.id for model in report.imported)


def reasons(report: ImportReport) -> dict[str, str]:
    return {Path(one.path).name: one.reason for one in report.skipped}


def test_the_hub_cache_gives_repository_commit_and_digest(manager: DownloadManager, tmp_path: Path) -> None:
    cache = tmp_path / "hub"
    link = cached(cache, "owner/name-GGUF", COMMIT, "name-Q4_K_M.gguf", sha256="a" * 64)
    (cache / "models--owner--name-GGUF" / "refs").mkdir()
    (cache / "models--owner--name-GGUF" / "refs" / "main").write_text(COMMIT)
    cached(cache, "owner/name-GGUF", OLDER, "name-Q4_K_M.gguf", sha256="b" * 64)

    report = manager.sync.import_folder(cache)

    assert ids(report) == ["owner/name-GGUF:Q4_K_M", f"owner/name-GGUF@{OLDER}:Q4_K_M"]
    model = manager.catalog.find("owner/name-GGUF:Q4_K_M")
    assert (model.commit_sha, model.origin, model.paths) == (COMMIT, "import", (str(link),))
    assert model.files[0].sha256 == "a" * 64
    assert not model.is_verified
    assert link.is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("pipe", ["models--owner--name-GGUF/refs/main", ".cache/huggingface/download/{path}.metadata"])
def test_a_pipe_beside_the_files_blocks_nothing(manager: DownloadManager, tmp_path: Path, pipe: str) -> None:
    cache = tmp_path / "hub"
    link = cached(cache, "owner/name-GGUF", COMMIT, "name-Q4_K_M.gguf", sha256="a" * 64)
    link.unlink()
    write(link.parent, link.name)
    place = link.parent / pipe.format(path=link.name) if "{" in pipe else cache / pipe
    place.parent.mkdir(parents=True)
    os.mkfifo(place)
    waiting = threading.Thread(target=manager.sync.import_folder, args=(cache,), daemon=True)
    waiting.start()

    waiting.join(60)

    assert not waiting.is_alive()
    assert [str(model.id) for model in manager.catalog.models()] == ["owner/name-GGUF:Q4_K_M"]


def test_models_of_a_moved_folder_are_found_in_their_new_place(manager: DownloadManager, tmp_path: Path) -> None:
    path = manager.sync.download("demo/small-GGUF", "Q4_K_M")
    [before] = manager.catalog.models()
    moved = tmp_path / "moved"
    manager.config.models_directory.rename(moved)

    report = manager.sync.import_folder(moved)

    [model] = manager.catalog.models()
    assert (ids(report), report.skipped) == (["demo/small-GGUF:Q4_K_M"], ())
    assert model.paths == (str(moved / path.relative_to(manager.config.models_directory)),)
    assert (model.commit_sha, model.origin, model.is_verified) == (before.commit_sha, "hub", True)
    assert manager.sync.models()[0].state == "verified"


def test_a_moved_model_keeps_its_draft(manager: DownloadManager, hub: FaultyHub, tmp_path: Path) -> None:
    hub.add_repository(make_repository("demo/draft-GGUF", {"m-7B-Q4_K_M.gguf": 60_000, "mtp-m-7B.gguf": 20_000}))
    manager.sync.download("demo/draft-GGUF", companions=("draft",))
    manager.config.models_directory.rename(tmp_path / "moved")

    report = manager.sync.import_folder(tmp_path / "moved")

    [model] = manager.catalog.models()
    assert report.skipped == ()
    assert model.draft_path == str(tmp_path / "moved/demo/draft-GGUF/mtp-m-7B.gguf")


def test_a_moved_model_is_recognised_beside_the_projector_of_another(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    files = {"m-Q4_K_M.gguf": 60_000, "m-Q8_0.gguf": 90_000, "mmproj-F16.gguf": 20_000}
    hub.add_repository(make_repository("demo/two-GGUF", files))
    manager.sync.download("demo/two-GGUF", "Q4_K_M")
    manager.sync.download("demo/two-GGUF", "Q8_0", companions=("mmproj",))
    manager.config.models_directory.rename(tmp_path / "moved")

    manager.sync.import_folder(tmp_path / "moved")

    models = {model.label: model for model in manager.catalog.models()}
    assert [(model.origin, model.is_verified) for model in models.values()] == [("hub", True)] * 2
    assert [models[label].projector_path is None for label in ("Q4_K_M", "Q8_0")] == [True, False]


def test_a_kept_version_does_not_change_the_id_of_the_current_one(
    manager: DownloadManager, make_manager: Callable[..., DownloadManager], hub: FaultyHub, tmp_path: Path
) -> None:
    hub.add_repository(make_repository("demo/moving-GGUF", {"moving-Q4_K_M.gguf": 40_000}))
    manager.sync.download("demo/moving-GGUF")
    commit = make_repository("demo/other-GGUF", {"moving-Q4_K_M.gguf": 50_000}).commit()
    assert commit is not None
    hub.move_branch("demo/moving-GGUF", "main", commit.files.values())
    manager.sync.wait(manager.sync.update("moving", keep=True).id)
    kept = next(Path(row.path).parent.name for row in manager.sync.models() if row.revision)

    fresh = make_manager(state_directory=tmp_path / "another")  # its database was lost
    report = fresh.sync.import_folder(manager.config.models_directory)

    assert ids(report) == ["demo/moving-GGUF:Q4_K_M", f"demo/moving-GGUF{kept}:Q4_K_M"]
    assert fresh.sync.update("demo/moving-GGUF:Q4_K_M").id == "demo/moving-GGUF:Q4_K_M"


def test_a_cancelled_import_registers_nothing(manager: DownloadManager, tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "many", f"model{number}-Q4_K_M.gguf")
    reached, go_on = threading.Event(), threading.Event()

    def tell(_progress: WorkProgress) -> None:
        reached.set()
        go_on.wait(60)

    future = manager.submit(manager.sync.import_folder, tmp_path / "many", on_progress=tell)
    assert reached.wait(60)
    future.cancel()
    go_on.set()
    manager.submit(manager.sync.models).result(timeout=60)

    time.sleep(0.3)
    assert manager.sync.models() == []


def test_a_hub_cache_file_with_the_right_digest_is_verified(manager: DownloadManager, tmp_path: Path) -> None:
    stated = small_gguf("x.gguf", 4_000).sha256
    cached(tmp_path / "hub", "owner/name-GGUF", COMMIT, "name-Q4_K_M.gguf", sha256=stated)
    manager.sync.import_folder(tmp_path / "hub")

    manager.sync.verify("name")

    [row] = manager.sync.models()
    assert (row.state, row.verified_at_s is not None) == ("verified", True)


def test_a_file_without_a_known_digest_stays_unverified(manager: DownloadManager, tmp_path: Path) -> None:
    write(tmp_path, "owner/name-GGUF/name-Q4_K_M.gguf")
    manager.sync.import_folder(tmp_path)

    for _ in range(2):
        assert manager.sync.verify("name").is_right

    assert [row.state for row in manager.sync.models()] == ["unverified"]


def test_two_snapshots_of_one_blob_are_one_model(manager: DownloadManager, tmp_path: Path) -> None:
    for commit in (COMMIT, OLDER):
        cached(tmp_path / "hub", "owner/name-GGUF", commit, "name-Q4_K_M.gguf", sha256="a" * 64)

    report = manager.sync.import_folder(tmp_path / "hub")

    assert len(report.imported) == 1
    assert "is the same file as" in report.skipped[0].reason


def test_lm_studios_folder_gives_the_repository(manager: DownloadManager, tmp_path: Path) -> None:
    path = write(tmp_path / "lm", "models/owner/name-GGUF/name-Q8_0.gguf")
    write(tmp_path / "lm", "models/owner/name-GGUF/mmproj-F16.gguf")

    report = manager.sync.import_folder(tmp_path / "lm")

    [row] = report.imported
    assert (row.id, row.path) == ("owner/name-GGUF:Q8_0", str(path))
    assert row.projector_path == str(path.with_name("mmproj-F16.gguf"))
    assert row.architecture == "llama"
    assert row.state == "unverified"


@pytest.mark.parametrize(
    "bin_", [".Trash-1000/files", ".Trashes/501", "$RECYCLE.BIN/S-1-5", ".local/share/Trash/files"]
)
def test_deleted_files_of_a_disk_are_not_imported(manager: DownloadManager, tmp_path: Path, bin_: str) -> None:
    write(tmp_path / "disk", f"{bin_}/deleted-Q8_0.gguf", 5_000)
    write(tmp_path / "disk", "kept-Q8_0.gguf")

    report = manager.sync.import_folder(tmp_path / "disk")

    assert (ids(report), report.skipped) == (["local/kept-Q8_0"], ())


def test_a_models_folder_without_owners_names_no_repository(manager: DownloadManager, tmp_path: Path) -> None:
    """ComfyUI has `models/unet`, text-generation-webui `models/<name>`."""
    write(tmp_path / "program", "models/unet/name-Q8_0.gguf")

    report = manager.sync.import_folder(tmp_path / "program")

    assert ids(report) == ["local/name-Q8_0"]


def test_the_manifests_in_llama_cpps_folder_give_the_repository(manager: DownloadManager, tmp_path: Path) -> None:
    write(tmp_path / "llama.cpp", "owner_name-GGUF_name-Q4_K_M.gguf")
    (tmp_path / "llama.cpp" / "manifest=owner=name-GGUF=Q4_K_M.json").write_text("{}")

    report = manager.sync.import_folder(tmp_path / "llama.cpp")

    assert ids(report) == ["owner/name-GGUF:Q4_K_M"]
    assert manager.catalog.models()[0].files[0].path_in_repo == "name-Q4_K_M.gguf"


def test_a_split_set_is_one_model_with_the_parameters_of_all_shards(manager: DownloadManager, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(tmp_path / "lm", f"owner/big/big-Q4_K_M-{number:05}-of-00003.gguf")

    [row] = manager.sync.import_folder(tmp_path / "lm").imported

    assert (row.id, row.file_count) == ("owner/big:Q4_K_M", 3)
    assert row.parameter_count is not None


def test_files_of_unknown_origin_are_local(manager: DownloadManager, tmp_path: Path) -> None:
    write(tmp_path / "mine", "my model (final).gguf")
    write(tmp_path / "mine", "sub/my model (final).gguf", 5_000)

    report = manager.sync.import_folder(tmp_path / "mine")

    assert ids(report) == ["local/my-model-final", "local/my-model-final-2"]
    [update, _other] = manager.sync.check_updates()
    assert (update.has_update, bool(update.problem)) == (None, True)


def test_a_digest_known_from_a_registered_model_gives_the_repository(manager: DownloadManager, tmp_path: Path) -> None:
    here = manager.sync.download("demo/small-GGUF", "Q4_K_M")
    [model] = manager.catalog.models()
    copy = tmp_path / "copies" / "renamed.gguf"
    metadata = copy.parent / ".cache" / "huggingface" / "download" / "renamed.gguf.metadata"
    metadata.parent.mkdir(parents=True)
    copy.write_bytes(here.read_bytes())
    metadata.write_text(f"{model.commit_sha}\n{model.files[0].sha256}\n1700000000.0\n")

    report = manager.sync.import_folder(copy.parent)

    assert [row.repo_id for row in report.imported] == ["demo/small-GGUF"]


def headed(folder: Path, name: str, **keys: Value) -> Path:
    """A file with these header keys; `__` means a dot."""
    metadata = {key.replace("__", "."): value for key, value in keys.items()}
    content = gguf_content(metadata, [Tensor(f"{number}.weight", (64,), "F32") for number in range(8)], name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"".join(bytes(piece) for piece in content.slices()))
    return folder / name


def whole(architecture: str, width: int = 64) -> dict[str, Value]:
    return {
        "general.architecture": architecture,
        f"{architecture}.block_count": 2,
        f"{architecture}.embedding_length": width,
    }


@pytest.mark.parametrize(
    "name",
    [
        "medusa-1.1-l2-7b.Q4_K_M.gguf",
        "rwkv-5-eagle-7b-Q4_K_M.gguf",
        "voice-assistant-8b-Q8_0.gguf",
        "my-merged-lora-f16.gguf",
    ],
)
def test_in_a_flat_folder_the_header_identifies_models(manager: DownloadManager, tmp_path: Path, name: str) -> None:
    headed(tmp_path / "flat", "other-7B-Q4_K_M.gguf", **whole("llama"))
    headed(tmp_path / "flat", name, **whole("llama"))

    assert len(manager.sync.import_folder(tmp_path / "flat").imported) == 2


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({"general__architecture": "clip"}, "mmproj"),
        ({"general__architecture": "llama", "general__type": "adapter"}, "adapter"),
        ({"general__type": "imatrix"}, "imatrix"),
        ({"general__architecture": "controlvector"}, "adapter"),
    ],
)
def test_a_file_whose_header_is_not_a_models_is_skipped_whatever_its_name(
    manager: DownloadManager, tmp_path: Path, keys: dict[str, Value], kind: str
) -> None:
    headed(tmp_path / "flat", "innocent-7B-Q8_0.gguf", **keys)

    report = manager.sync.import_folder(tmp_path / "flat")

    assert report.imported == ()
    assert f"({kind})" in report.skipped[0].reason


def test_a_projector_is_paired_by_its_header(manager: DownloadManager, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for name, architecture in (
        ("Qwen3.5-9B", "qwen35"),
        ("DeepSeek-R1-Distill-8B", "llama"),
        ("gemma-4-E4B", "gemma4"),
    ):
        headed(flat, f"{name}-Q4_K_M.gguf", **whole(architecture, 2560), general__basename=name)
    clip = {"general.architecture": "clip", "general.type": "mmproj", "clip.projector_type": "gemma4v"}
    headed(flat, "mmproj-F16.gguf", **clip, clip__vision__projection_dim=2560, general__basename="gemma-4-E4B")

    rows = manager.sync.import_folder(flat).imported

    assert {row.path: row.projector_path for row in rows} == {
        str(flat / "Qwen3.5-9B-Q4_K_M.gguf"): None,
        str(flat / "DeepSeek-R1-Distill-8B-Q4_K_M.gguf"): None,
        str(flat / "gemma-4-E4B-Q4_K_M.gguf"): str(flat / "mmproj-F16.gguf"),
    }


def test_of_a_split_draft_all_files_are_imported(manager: DownloadManager, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    paths = [headed(flat, "m-7B-Q4_K_M.gguf", **whole("gemma4"))]
    for number in (0, 1):
        keys: dict[str, Value] = {"split.count": 2, "split.no": number, "split.tensors.count": 16}
        keys |= {} if number else whole("gemma4-assistant")
        paths.append(headed(flat, f"mtp-m-7B-0000{number + 1}-of-00002.gguf", **keys))

    report = manager.sync.import_folder(flat)

    [model] = manager.catalog.models()
    assert report.skipped == ()
    assert [file.target for file in model.files] == [str(path) for path in paths]


def test_a_quantization_missing_from_the_name_is_read_from_the_header(manager: DownloadManager, tmp_path: Path) -> None:
    headed(tmp_path / "flat", "model-iq4xs.gguf", **whole("llama"), general__file_type=30)

    assert [row.quantization for row in manager.sync.import_folder(tmp_path / "flat").imported] == ["IQ4_XS"]


def test_skipped_files_are_reported_with_a_reason(manager: DownloadManager, tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    write(folder, "owner/part/part-Q4_K_M-00001-of-00002.gguf")
    (folder / "owner/text").mkdir()
    (folder / "owner/text/page.gguf").write_bytes(b"<html>not found</html>")
    write(folder, "owner/only/mmproj-F16.gguf")
    (folder / "owner/gone.gguf").symlink_to(folder / "nowhere")
    done = write(folder, "owner/done/done-Q4_K_M.gguf")
    manager.sync.import_folder(done.parent)

    found = reasons(manager.sync.import_folder(folder))

    assert "lacks its shards 2 of 2" in found["part-Q4_K_M-00001-of-00002.gguf"]
    assert "not a GGUF file" in found["page.gguf"]
    assert "is a companion file (mmproj), not a model" in found["mmproj-F16.gguf"]
    assert "is a broken link" in found["gone.gguf"]
    assert "is already registered as" in found["done-Q4_K_M.gguf"]


@pytest.mark.slow
def test_a_model_of_the_same_id_is_not_replaced(manager: DownloadManager, tmp_path: Path) -> None:
    path = manager.sync.download("demo/small-GGUF", "Q4_K_M")
    write(tmp_path / "lm", "demo/small-GGUF/small-Q4_K_M.gguf", 9_000)

    report = manager.sync.import_folder(tmp_path / "lm")

    assert report.imported == ()
    assert "which is already registered" in report.skipped[0].reason
    assert manager.sync.path("small") == path


def test_our_own_folder_can_be_registered_again(manager: DownloadManager) -> None:
    manager.sync.download("demo/split-GGUF")
    manager.sync.forget("split")

    report = manager.sync.import_folder(manager.config.models_directory)

    assert ids(report) == ["demo/split-GGUF:Q4_K_M"]
    verification = manager.sync.verify("split")
    assert {file.verdict for file in verification.files} == {"unstated"}


def test_progress_is_reported_for_each_header(manager: DownloadManager, tmp_path: Path) -> None:
    write(tmp_path / "lm", "owner/a/a-Q4_K_M.gguf")
    write(tmp_path / "lm", "owner/b/b-Q4_K_M.gguf")
    reports: list[WorkProgress] = []

    manager.sync.import_folder(tmp_path / "lm", on_progress=reports.append)

    assert [(one.done_files, one.total_files) for one in reports] == [(1, 2), (2, 2)]


def test_a_missing_folder_is_refused(manager: DownloadManager, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="There is no folder"):
        manager.sync.import_folder(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_read_is_reported(
    manager: DownloadManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "lab", "other-Q4_K_M.gguf")
    (tmp_path / "lab" / "private").mkdir()
    scandir = os.scandir

    def without_rights(path: str) -> Any:
        if Path(path).name == "private":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", without_rights)
    report = manager.sync.import_folder(tmp_path / "lab")

    assert ids(report) == ["local/other-Q4_K_M"]
    assert reasons(report) == {"private": "cannot be read (Permission denied)"}


def test_a_circular_link_ends(manager: DownloadManager, tmp_path: Path) -> None:
    write(tmp_path / "lm", "owner/a/a-Q4_K_M.gguf")
    (tmp_path / "lm" / "owner" / "a" / "again").symlink_to(tmp_path / "lm")

    assert len(manager.sync.import_folder(tmp_path / "lm").imported) == 1


def test_no_download_is_suggested_for_a_model_of_unknown_repository(manager: DownloadManager, tmp_path: Path) -> None:
    path = write(tmp_path / "own", "mine.gguf")
    manager.sync.import_folder(path.parent)
    first = results.verified(manager.sync.verify("local/mine"))
    path.write_bytes(b"damaged")
    damaged = results.verified(manager.sync.verify("local/mine"))
    row = listings.model_list(manager.sync.models(), manager.sync.disk_use()).rows[0]
    path.unlink()
    errors = []
    for ask in (manager.sync.path, lambda id_: manager.sync.export(id_, tmp_path / "out")):
        with pytest.raises(GglibError) as error:
            ask("local/mine")
        errors.append(str(error.value))

    assert first.endswith("its repository is unknown; a later change will be detected.")
    assert damaged.endswith(" Restore it.")
    assert "repair" not in [action.id for action in row.actions]
    assert not [text for text in errors if "%gguf queue" in text or "%gguf repair" in text]
