"""Bundles on a real disk: written, moved, interrupted, damaged, and too large for the file system."""

import errno
import hashlib
import os
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from gglib_nb.domain.download import HostFolder, StoredFile
from gglib_nb.domain.importing import MANIFEST_NAME
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import DownloadId
from gglib_nb.errors import DownloadInterruptedError, IntegrityError, RequestError, StorageError
from gglib_nb.manager import bundles
from gglib_nb.manager.bundles import BundleReport, export_models, import_models, is_bundle, read_manifest
from tests.support.hub import small_gguf

COMMIT = "c" * 40
MB = 1_000_000


def a_model(
    folder: Path, text: str = "owner/repo:Q4_K_M", name: str = "m-Q4_K_M.gguf", size_bytes: int = 40_000
) -> Model:
    id_ = DownloadId.parse(text)
    path = folder / id_.repo_id / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(bytes(piece) for piece in small_gguf(name, size_bytes).slices()))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    found = path.stat()
    file = StoredFile(str(path), name, "shard", found.st_size, sha256, True, found.st_mtime_ns, False, {})
    return Model(id_, COMMIT, "Q4_K_M", (file,), 1.0)


def content(model: Model) -> bytes:
    return Path(model.files[0].target).read_bytes()


@pytest.fixture
def other_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on another filesystem, which cannot contain hard links."""

    def refuse(*_paths: object, **_options: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    return tmp_path / "stick"


def test_a_model_is_moved_to_another_machine(tmp_path: Path, other_disk: Path) -> None:
    model = a_model(tmp_path / "models")

    report = export_models([model], other_disk, read_card=lambda _: b"# A card")
    registered: list[Model] = []
    (imported,) = import_models(other_disk, tmp_path / "there", registered.append)

    assert (report.models, report.linked_bytes) == (("owner/repo:Q4_K_M",), 0)
    assert is_bundle(other_disk)
    assert (other_disk / "owner/repo/README.md").read_bytes() == b"# A card"
    assert registered == [imported]
    assert (imported.id, imported.commit_sha, imported.origin) == (model.id, COMMIT, "import")
    assert imported.files[0].target == str(tmp_path / "there/owner/repo/m-Q4_K_M.gguf")
    assert imported.is_verified
    assert content(imported) == content(model)
    assert imported.facts["architecture"]


def test_the_repository_of_a_local_model_stays_unknown_on_another_machine(tmp_path: Path) -> None:
    model = replace(a_model(tmp_path / "models", "local/mine", "mine.gguf"), commit_sha=None, origin="local")

    export_models([model], tmp_path / "bundle")
    (imported,) = import_models(tmp_path / "bundle", tmp_path / "there", lambda _: None)

    assert (imported.id, imported.origin) == (model.id, "local")


def test_a_local_model_does_not_replace_another_of_the_same_name(tmp_path: Path) -> None:
    model, own = (
        replace(a_model(tmp_path / place, "local/mine", name), commit_sha=None, origin="local")
        for place, name in (("models", "mine.gguf"), ("own", "other.gguf"))
    )
    export_models([model], tmp_path / "bundle")
    registered: list[Model] = []

    with pytest.raises(RequestError, match="A model is already registered as local/mine"):
        import_models(tmp_path / "bundle", tmp_path / "there", registered.append, registered=[own])

    assert registered == []


def test_a_model_that_was_joined_from_parts_keeps_the_name_that_programs_open(tmp_path: Path) -> None:
    model = a_model(tmp_path / "models", name="m-Q4_K_M.gguf")
    model = replace(model, files=(replace(model.files[0], path_in_repo="m-Q4_K_M.gguf.part1of2"),))

    export_models([model], tmp_path / "bundle")
    (imported,) = import_models(tmp_path / "bundle", tmp_path / "there", lambda _: None)

    assert (tmp_path / "bundle/owner/repo/m-Q4_K_M.gguf").is_file()
    assert imported.paths == (str(tmp_path / "there/owner/repo/m-Q4_K_M.gguf"),)
    assert imported.files[0].path_in_repo == "m-Q4_K_M.gguf.part1of2"


def test_an_import_without_the_projector_keeps_that_of_the_model(tmp_path: Path) -> None:
    model = a_model(tmp_path / "models")
    export_models([model], tmp_path / "bundle")
    projector = replace(a_model(tmp_path / "models", name="mmproj-F16.gguf").files[0], kind="mmproj")
    seeing = replace(model, files=(*model.files, projector))

    (imported,) = import_models(tmp_path / "bundle", tmp_path / "models", lambda _: None, registered=[seeing])

    assert imported.projector_path == projector.target


def test_a_disk_that_cannot_sync_gets_a_bundle(
    tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    model = a_model(tmp_path / "models")
    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(os, "fdatasync", refuse)

    export_models([model], other_disk)
    (imported,) = import_models(other_disk, tmp_path / "there", lambda _: None)

    assert content(imported) == content(model)


def test_on_the_same_disk_files_are_linked(tmp_path: Path) -> None:
    model = a_model(tmp_path / "models")

    report = export_models([model], tmp_path / "bundle")

    assert report.linked_bytes == model.size_bytes
    assert (tmp_path / "bundle/owner/repo/m-Q4_K_M.gguf").samefile(model.paths[0])


def test_a_second_export_adds_to_a_bundle_and_keeps_the_first_model(tmp_path: Path) -> None:
    first, second = a_model(tmp_path / "m"), a_model(tmp_path / "m", "owner/repo:Q8_0", "m-Q8_0.gguf")
    export_models([first], tmp_path / "bundle")

    export_models([second], tmp_path / "bundle")

    assert [model.id for model in read_manifest(tmp_path / "bundle").models] == ["owner/repo:Q4_K_M", "owner/repo:Q8_0"]


def test_an_export_keeps_the_entry_that_another_export_wrote_meanwhile(tmp_path: Path) -> None:
    first, second = a_model(tmp_path / "m"), a_model(tmp_path / "m", "owner/repo:Q8_0", "m-Q8_0.gguf")
    bundle = tmp_path / "bundle"

    export_models([first], bundle, read_card=lambda _: export_models([second], bundle) and None)

    assert {model.id for model in read_manifest(bundle).models} == {"owner/repo:Q4_K_M", "owner/repo:Q8_0"}


@pytest.mark.parametrize("links", [True, False])
def test_an_export_keeps_its_new_folder_although_another_into_it_fails(
    tmp_path: Path, request: pytest.FixtureRequest, links: bool
) -> None:
    if not links:
        request.getfixturevalue("other_disk")
    damaged, intact = a_model(tmp_path / "m"), a_model(tmp_path / "m", "owner/repo:Q8_0", "m-Q8_0.gguf")
    Path(damaged.paths[0]).write_bytes(b"x" * 40_000)
    intact = replace(intact, files=(replace(intact.files[0], is_verified=False),))  # so that it is hashed first
    has_begun, has_failed = threading.Event(), threading.Event()

    def wait_for_failure(_progress: object) -> None:
        has_begun.set()
        has_failed.wait(30)

    with ThreadPoolExecutor() as threads:

        def begin_other(_progress: object) -> None:
            exports.append(threads.submit(export_models, [intact], tmp_path / "b", on_progress=wait_for_failure))
            has_begun.wait(30)

        exports: list[Future[BundleReport]] = []
        with pytest.raises(IntegrityError):
            export_models([damaged], tmp_path / "b", on_progress=begin_other)
        has_failed.set()

    assert exports[0].result().models == ("owner/repo:Q8_0",)


_SLOW_EXPORT = """
import pickle, sys
from pathlib import Path
from gglib_nb.manager import bundles

encode, model = bundles.encode_manifest, pickle.load(sys.stdin.buffer)

def wait_and_encode(manifest):
    print("has read the manifest", flush=True)
    sys.stdin.buffer.readline()
    return encode(manifest)

bundles.encode_manifest = wait_and_encode
bundles.export_models([model], Path(sys.argv[1]))
"""


def test_exports_of_two_processes_into_one_bundle_keep_both_entries(tmp_path: Path) -> None:
    first, second = a_model(tmp_path / "m"), a_model(tmp_path / "m", "owner/repo:Q8_0", "m-Q8_0.gguf")
    command = [sys.executable, "-c", _SLOW_EXPORT, str(tmp_path / "bundle")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        pickle.dump(first, other.stdin)
        other.stdin.flush()
        assert other.stdout.readline() == b"has read the manifest\n"
        own = threading.Thread(target=export_models, args=([second], tmp_path / "bundle"))
        own.start()
        own.join(0.5)  # without a lock it has ended now, and the other one overwrites its entry
        other.stdin.write(b"\n")
        other.stdin.close()
        assert other.wait(30) == 0
        own.join(30)

    assert {model.id for model in read_manifest(tmp_path / "bundle").models} == {"owner/repo:Q4_K_M", "owner/repo:Q8_0"}


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("size_bytes", [20_000, 40_000])
def test_a_file_that_the_manifest_does_not_name_is_not_overwritten(
    tmp_path: Path, is_known: bool, size_bytes: int
) -> None:
    model = a_model(tmp_path / "models")
    if not is_known:
        model = replace(model, files=(replace(model.files[0], sha256=None),))
    own = tmp_path / "bundle/owner/repo/m-Q4_K_M.gguf"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"x" * size_bytes)

    with pytest.raises(StorageError, match="into another folder"):
        export_models([model], tmp_path / "bundle")

    assert own.read_bytes() == b"x" * size_bytes
    assert not is_bundle(tmp_path / "bundle")


def test_an_older_version_does_not_replace_the_newer_one_of_a_bundle(tmp_path: Path) -> None:
    newer = a_model(tmp_path / "models")
    older = a_model(tmp_path / "old", f"owner/repo@{COMMIT}:Q4_K_M", size_bytes=50_000)
    bundle = tmp_path / "bundle"
    export_models([newer], bundle)

    with pytest.raises(StorageError, match="into another folder"):
        export_models([older], bundle)

    [entry] = read_manifest(bundle).models
    assert entry.files[0].sha256 == newer.files[0].sha256
    assert (bundle / "owner/repo/m-Q4_K_M.gguf").read_bytes() == content(newer)


def test_a_new_version_of_a_model_replaces_the_one_in_a_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    export_models([a_model(tmp_path / "old")], bundle)
    newer = a_model(tmp_path / "new", size_bytes=50_000)

    export_models([newer], bundle)

    assert (bundle / "owner/repo/m-Q4_K_M.gguf").read_bytes() == content(newer)


def test_a_second_export_of_the_same_file_is_refused_while_the_first_writes_it(
    tmp_path: Path, other_disk: Path
) -> None:
    model = a_model(tmp_path / "models", size_bytes=12 * MB)
    refusals: list[str] = []

    def export_again(_progress: object) -> None:
        with pytest.raises(StorageError) as caught:
            export_models([model], other_disk)
        refusals.append(str(caught.value))

    export_models([model], other_disk, on_progress=export_again)

    assert refusals[0].startswith("Another export or import is writing ")
    assert (other_disk / "owner/repo/m-Q4_K_M.gguf").read_bytes() == content(model)


def test_a_readme_that_is_there_already_is_kept(tmp_path: Path) -> None:
    readme = tmp_path / "bundle/owner/repo/README.md"
    readme.parent.mkdir(parents=True)
    readme.write_bytes(b"# Mine")

    export_models([a_model(tmp_path / "m")], tmp_path / "bundle", read_card=lambda _: b"# A card")

    assert readme.read_bytes() == b"# Mine"


@contextmanager
def given_up(answer: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """The caller of an export or import has given up if `answer` says so."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bundles, "has_given_up", answer)
        yield


def test_an_interrupted_export_continues_where_it_stopped(tmp_path: Path, other_disk: Path) -> None:
    model = a_model(tmp_path / "models", size_bytes=12 * MB)
    stop = threading.Event()
    with given_up(stop.is_set), pytest.raises(DownloadInterruptedError):
        export_models([model], other_disk, on_progress=lambda _progress: stop.set())
    target = other_disk / "owner/repo/m-Q4_K_M.gguf"
    begun = target.with_name(target.name + ".copying")
    size_before = begun.stat().st_size
    inode = begun.stat().st_ino

    export_models([model], other_disk)

    assert 0 < size_before < model.size_bytes
    assert target.stat().st_ino == inode
    assert target.read_bytes() == content(model)
    assert not begun.exists()
    assert not is_bundle(tmp_path)


def test_nothing_of_an_interrupted_export_is_in_the_manifest(tmp_path: Path, other_disk: Path) -> None:
    with given_up(), pytest.raises(DownloadInterruptedError):
        export_models([a_model(tmp_path / "models")], other_disk)

    assert not (other_disk / MANIFEST_NAME).exists()


def test_a_wrong_file_of_an_earlier_copy_is_copied_again(tmp_path: Path, other_disk: Path) -> None:
    model = a_model(tmp_path / "models")
    begun = other_disk / "owner/repo/m-Q4_K_M.gguf.copying"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"x" * 10_000)

    export_models([model], other_disk)

    assert (other_disk / "owner/repo/m-Q4_K_M.gguf").read_bytes() == content(model)


def test_a_damaged_model_is_refused_and_left_out_of_the_manifest(tmp_path: Path, other_disk: Path) -> None:
    model = a_model(tmp_path / "models")
    data = bytearray(content(model))
    data[-1] ^= 1
    Path(model.paths[0]).write_bytes(data)

    with pytest.raises(IntegrityError, match="repair"):
        export_models([model], other_disk)

    assert not other_disk.exists()


def test_a_damaged_model_is_not_linked_into_a_bundle(tmp_path: Path) -> None:
    model = a_model(tmp_path / "models")
    data = bytearray(content(model))
    data[-1] ^= 1
    Path(model.paths[0]).write_bytes(data)

    with pytest.raises(IntegrityError):
        export_models([model], tmp_path / "bundle")

    assert Path(model.paths[0]).exists()
    assert not (tmp_path / "bundle").exists()


def test_a_truncated_model_is_not_exported_even_if_its_modification_time_is_the_recorded_one(tmp_path: Path) -> None:
    model = a_model(tmp_path / "models")
    path = Path(model.paths[0])
    os.truncate(path, 20_000)
    os.utime(path, ns=(model.files[0].mtime_ns, model.files[0].mtime_ns))

    with pytest.raises(IntegrityError, match="repair"):
        export_models([model], tmp_path / "bundle")

    assert not (tmp_path / "bundle" / MANIFEST_NAME).exists()


def test_an_export_into_the_models_folder_never_deletes_a_damaged_model(tmp_path: Path) -> None:
    model = a_model(tmp_path / "models")
    damaged = content(model)[:-1] + b"x"
    Path(model.paths[0]).write_bytes(damaged)

    with pytest.raises(IntegrityError):
        export_models([model], tmp_path / "models")

    assert content(model) == damaged


def test_a_model_on_hosts_of_a_cluster_is_refused_with_their_names(tmp_path: Path) -> None:
    model = replace(
        a_model(tmp_path / "models"), hosts=(HostFolder("node1", "/models"), HostFolder("node2", "/models"))
    )
    Path(model.paths[0]).unlink()

    with pytest.raises(StorageError, match=r"It is on node1, node2\. Export it there\."):
        export_models([model], tmp_path / "bundle")


def test_a_model_with_a_missing_file_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    first, second = a_model(tmp_path / "m"), a_model(tmp_path / "m", "owner/repo:Q8_0", "m-Q8_0.gguf")
    Path(second.paths[0]).unlink()

    with pytest.raises(StorageError, match=r"m-Q8_0\.gguf"):
        export_models([first, second], tmp_path / "bundle")

    assert not (tmp_path / "bundle").exists()


def test_a_bundle_damaged_in_transit_is_not_registered(tmp_path: Path, other_disk: Path) -> None:
    export_models([a_model(tmp_path / "models")], other_disk)
    carried = other_disk / "owner/repo/m-Q4_K_M.gguf"
    carried.write_bytes(carried.read_bytes()[:-1] + b"\xff\x00"[:1])
    registered: list[Model] = []

    with pytest.raises(IntegrityError, match="Export the bundle again"):
        import_models(other_disk, tmp_path / "there", registered.append)

    assert registered == []
    assert not (tmp_path / "there").exists()


def test_a_file_missing_from_a_bundle_is_named(tmp_path: Path, other_disk: Path) -> None:
    export_models([a_model(tmp_path / "models")], other_disk)
    (other_disk / "owner/repo/m-Q4_K_M.gguf").unlink()

    with pytest.raises(StorageError, match=r"m-Q4_K_M\.gguf is missing"):
        import_models(other_disk, tmp_path / "there", lambda _model: None)

    assert not (tmp_path / "there").exists()


def test_an_import_keeps_existing_files_and_never_replaces_a_different_one(tmp_path: Path, other_disk: Path) -> None:
    model = a_model(tmp_path / "models")
    export_models([model], other_disk)
    import_models(other_disk, tmp_path / "there", lambda _model: None)
    target = tmp_path / "there/owner/repo/m-Q4_K_M.gguf"
    inode = target.stat().st_ino

    (again,) = import_models(other_disk, tmp_path / "there", lambda _model: None)
    assert again.files[0].was_present
    assert target.stat().st_ino == inode
    target.write_bytes(b"mine")
    with pytest.raises(StorageError, match="Another file"):
        import_models(other_disk, tmp_path / "there", lambda _model: None)

    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize("origin", ["hub", "import", "local"])
def test_an_import_keeps_the_files_of_a_registered_model_in_another_folder(
    tmp_path: Path, origin: Literal["hub", "import", "local"]
) -> None:
    model = replace(a_model(tmp_path / "mine"), origin=origin)
    export_models([model], tmp_path / "bundle")

    (again,) = import_models(tmp_path / "bundle", tmp_path / "models", lambda _model: None, registered=[model])

    assert (again.paths, again.origin) == (model.paths, origin)
    assert not (tmp_path / "models").exists()


def test_a_registered_model_whose_disk_does_not_answer_is_imported_again(
    tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = a_model(tmp_path / "models")
    export_models([model], other_disk)
    fail_at(model.paths[0], monkeypatch)

    (imported,) = import_models(other_disk, tmp_path / "there", lambda _: None, registered=[model])

    assert Path(imported.paths[0]).is_relative_to(tmp_path / "there")


def test_an_import_to_a_disk_that_does_not_answer_names_the_file(
    tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_models([a_model(tmp_path / "models")], other_disk)
    fail_at(tmp_path / "there", monkeypatch)

    with pytest.raises(StorageError, match=r"there.*not connected"):
        import_models(other_disk, tmp_path / "there", lambda _: None)


def fail_at(path: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this path and those below it fail as on a dead mount."""

    def failing(name: str) -> None:
        call = getattr(os, name)

        def instead(at: Any, *rest: Any, **options: Any) -> Any:
            if isinstance(at, str | Path) and Path(at).is_relative_to(path):
                raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), str(at))
            return call(at, *rest, **options)

        monkeypatch.setattr(os, name, instead)

    for name in ("stat", "lstat", "scandir", "open", "mkdir"):
        failing(name)


def test_a_folder_without_a_manifest_is_not_a_bundle(tmp_path: Path) -> None:
    assert not is_bundle(tmp_path)
    os.mkfifo(tmp_path / MANIFEST_NAME)
    assert not is_bundle(tmp_path)
    with pytest.raises(StorageError, match="not a file"):
        read_manifest(tmp_path)


def test_a_manifest_of_gigabytes_is_refused(tmp_path: Path) -> None:
    with (tmp_path / MANIFEST_NAME).open("wb") as file:
        file.truncate(5_000_000_000)

    with pytest.raises(RequestError, match="too large for a manifest"):
        read_manifest(tmp_path)


def test_a_link_in_place_of_a_copy_is_not_followed(tmp_path: Path, other_disk: Path) -> None:
    model = a_model(tmp_path / "models")
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    begun = other_disk / "owner/repo/m-Q4_K_M.gguf.copying"
    begun.parent.mkdir(parents=True)
    begun.symlink_to(victim)

    with pytest.raises(StorageError):
        export_models([model], other_disk)

    assert victim.read_bytes() == b"precious"


# A file system without large files. RLIMIT_FSIZE causes the same error as FAT (EFBIG), at a size that a test can write.

EXPORT = """
import resource, sys
from pathlib import Path
from tests.contract import test_bundles as t
from gglib_nb.manager.bundles import export_models
import os
def refuse(*a, **k): raise OSError(18, "cross-device")
os.link = refuse
model = t.a_model(Path(sys.argv[1]), size_bytes=7_000_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
export_models([model], Path(sys.argv[2]))
"""


def export_to_small_files(tmp_path: Path) -> Path:
    bundle = tmp_path / "fat"
    subprocess.run(
        [sys.executable, "-c", EXPORT, str(tmp_path / "models"), str(bundle)], check=True, cwd=Path(__file__).parents[2]
    )
    return bundle


def test_a_file_too_large_for_the_file_system_is_split_into_parts(tmp_path: Path) -> None:
    bundle = export_to_small_files(tmp_path)

    (imported,) = import_models(bundle, tmp_path / "there", lambda _model: None)

    parts = sorted(path.name for path in (bundle / "owner/repo").iterdir())
    assert parts == [f"m-Q4_K_M.gguf.part{number}of4" for number in (1, 2, 3, 4)]
    assert content(imported) == (tmp_path / "models/owner/repo/m-Q4_K_M.gguf").read_bytes()
    assert [path.name for path in (tmp_path / "there/owner/repo").iterdir()] == ["m-Q4_K_M.gguf"]


def test_parts_are_kept_by_a_second_export(tmp_path: Path) -> None:
    bundle = export_to_small_files(tmp_path)
    inodes = {path.name: path.stat().st_ino for path in (bundle / "owner/repo").iterdir()}

    export_to_small_files(tmp_path)

    assert {path.name: path.stat().st_ino for path in (bundle / "owner/repo").iterdir()} == inodes


def test_a_part_of_another_version_does_not_hide_the_parts_of_this_one(tmp_path: Path) -> None:
    folder = tmp_path / "fat/owner/repo"
    folder.mkdir(parents=True)
    for number in (2, 3, 5, 6, 7, 8, 9, 10, 11):
        (folder / f"m-Q4_K_M.gguf.part1of{number}").write_bytes(bytes(2 * 1024**2))
    (folder / "m-Q4_K_M.gguf.part1of7000000").write_bytes(b"x")
    bundle = export_to_small_files(tmp_path)
    inodes = {path.name: path.stat().st_ino for path in (bundle / "owner/repo").iterdir()}

    export_to_small_files(tmp_path)

    assert {path.name: path.stat().st_ino for path in (bundle / "owner/repo").iterdir()} == inodes


def test_an_import_into_a_file_system_without_large_files_is_refused_with_the_reason(
    tmp_path: Path, other_disk: Path
) -> None:
    export_models([a_model(tmp_path / "models", size_bytes=3 * MB)], other_disk)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MB, hard))
    try:
        with pytest.raises(StorageError, match="another disk"):
            import_models(other_disk, tmp_path / "there", lambda _model: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_shard_of_another_model_in_a_bundle_is_not_registered(tmp_path: Path) -> None:
    first = a_model(tmp_path / "m", name="m-00001-of-00002.gguf")
    model = replace(first, files=first.files)
    export_models([model], tmp_path / "bundle")
    registered: list[Model] = []

    with pytest.raises(Exception, match="missing"):
        import_models(tmp_path / "bundle", tmp_path / "there", registered.append)

    assert registered == []


def test_an_interrupted_copy_needs_space_only_for_the_rest(
    tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = a_model(tmp_path / "models", size_bytes=10 * MB)
    export_models([model], other_disk)
    with given_up(), pytest.raises(DownloadInterruptedError):
        import_models(other_disk, tmp_path / "there", lambda _: None)
    monkeypatch.setattr("gglib_nb.engine.disk.free_bytes", lambda _folder: 7 * MB)

    (imported,) = import_models(other_disk, tmp_path / "there", lambda _: None)

    assert content(imported) == content(model)


def test_a_broken_link_by_the_name_of_a_part_does_not_stop_an_import(tmp_path: Path, other_disk: Path) -> None:
    model = a_model(tmp_path / "models")
    export_models([model], other_disk)
    place = tmp_path / "there/owner/repo"
    place.mkdir(parents=True)
    (place / "m-Q4_K_M.gguf.part1of2").symlink_to(tmp_path / "nowhere")

    (imported,) = import_models(other_disk, tmp_path / "there", lambda _: None)

    assert content(imported) == content(model)
