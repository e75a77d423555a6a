"""The catalog: registered models are found by what a user types, from any thread or process.

It is long because the catalog has many operations.
"""

import errno
import multiprocessing
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gglib_nb.catalog.database import Database, catalog_error, network_filesystem
from gglib_nb.catalog.store import Catalog, known_files
from gglib_nb.domain.download import HostFolder, StoredFile
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.references import find_download
from gglib_nb.errors import AmbiguousQuantizationError, CatalogDamagedError, CatalogError, ModelNotFoundError
from tests.support.sentences import check_sentence
from tests.support.snapshots import download, snapshot

SHA = "a" * 64
OTHER_SHA = "b" * 64


def stored(target: str, **changes: object) -> StoredFile:
    file = StoredFile(
        target, target.rpartition("/")[2], "shard", 100, SHA, True, 1_700_000_000_123_456_789, True,
        {"architecture": "llama", "parameter_count": 8_030_261_248, "has_chat_template": True, "license": None},
        verified_at_s=1000.0,
    )  # fmt: skip
    return replace(file, **changes)  # type: ignore[arg-type]


def a_model(text: str, *files: StoredFile, at_s: float = 1000.0, label: str | None = "Q4_K_M") -> Model:
    id_ = DownloadId.parse(text)
    return Model(id_, "c" * 40, label, files or (stored(f"/models/{id_.repo_id}/{id_.quantization}.gguf"),), at_s)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "gglib_nb.sqlite3"


@pytest.fixture
def catalog(path: Path) -> Iterator[Catalog]:
    catalog = Catalog(path)
    yield catalog
    catalog.close()


@pytest.fixture
def registered(catalog: Catalog) -> Callable[..., Catalog]:
    """Makes a catalog of these ids."""

    def register(*texts: str) -> Catalog:
        for text in texts:
            catalog.register(a_model(text))
        return catalog

    return register


def test_nothing_is_created_before_the_first_use(catalog: Catalog, path: Path) -> None:
    assert not path.parent.exists()
    assert catalog.models() == []
    assert path.exists()


def test_a_registered_model_is_read_back_unchanged(catalog: Catalog) -> None:
    model = a_model(
        "owner/repo@refs/pr/1:Q4_K_M",
        stored("/models/Größe 1.gguf"),
        stored("/models/2.gguf", sha256=None, is_verified=False, facts={}, verified_at_s=None),
        stored("/models/3.gguf", wrong_ranges=((0, 4096), (8192, 9000))),
        stored("/models/mmproj.gguf", kind="mmproj"),
        label=None,
    )

    catalog.register(model)

    assert catalog.models() == [model]


def test_the_hosts_of_a_model_keep_their_order_and_are_deleted_with_it(catalog: Catalog, path: Path) -> None:
    hosts = (HostFolder("gpu-2", "/data/models"), HostFolder("gpu-1", "/models"))
    model = replace(a_model("owner/repo:Q4_K_M"), hosts=hosts)

    catalog.register(model)
    catalog.register(model)
    assert catalog.models() == [model]
    catalog.forget(model.id)

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM model_host").fetchone() == (0,)


def test_models_are_listed_newest_first(catalog: Catalog) -> None:
    catalog.register(a_model("owner/new:Q4_0", at_s=2000.0))
    catalog.register(a_model("owner/old:Q4_0", at_s=1000.0))

    assert [model.id.repo_id for model in catalog.models()] == ["owner/new", "owner/old"]


def test_registering_the_same_id_again_replaces_it(catalog: Catalog) -> None:
    catalog.register(a_model("owner/repo:Q4_0", stored("/models/1.gguf"), stored("/models/2.gguf")))
    newer = a_model("owner/repo:Q4_0", stored("/models/1.gguf", sha256=OTHER_SHA), at_s=2000.0)

    catalog.register(newer)

    assert catalog.models() == [newer]


def test_a_model_whose_file_was_overwritten_is_forgotten(catalog: Catalog) -> None:
    catalog.register(a_model("owner/repo:Q4_0", stored("/models/1.gguf")))

    catalog.register(a_model("owner/repo@v2:Q4_0", stored("/models/1.gguf", sha256=OTHER_SHA)))

    assert [str(model.id) for model in catalog.models()] == ["owner/repo@v2:Q4_0"]


def test_two_ids_of_the_same_file_are_both_kept(catalog: Catalog) -> None:
    catalog.register(a_model("owner/repo:Q4_0", stored("/models/1.gguf")))
    catalog.register(a_model("owner/repo@v2:Q4_0", stored("/models/1.gguf")))

    assert len(catalog.models()) == 2


@pytest.mark.parametrize(
    "text",
    [
        "owner/Repo-GGUF:Q4_K_M",
        " owner/repo-gguf:q4_k_m ",
        "owner/Repo-GGUF@v1:model-b",
        "owner/Repo-GGUF:MODEL-B",
        "other/only-one",
        "other/only-one:q4_k_m",
        "only-one",
        "only-one:some-stem",
        "repo-gguf:Q4_K_M",
        "epo-gguf:q4_k",
        "only-on",
    ],
)
def test_a_model_is_found_by_any_unique_reference(registered: Callable[..., Catalog], text: str) -> None:
    catalog = registered("owner/Repo-GGUF:Q4_K_M", "other/only-one:some-stem")
    catalog.register(a_model("owner/Repo-GGUF@v1:model-b", label="Q8_0"))

    found = catalog.find(text)

    assert found.id.quantization in {"Q4_K_M", "model-b", "some-stem"}
    assert (found.id.quantization == "some-stem") == ("only-on" in text)
    assert (found.id.quantization == "model-b") == ("model-b" in text.lower())


@pytest.mark.parametrize("text", ["#2", "2", " #2 "])
def test_a_model_is_found_by_its_row_the_newest_first(registered: Callable[..., Catalog], text: str) -> None:
    catalog = registered("owner/old:Q4_0", "owner/new:Q8_0")

    assert [str(model.id) for model in catalog.models()][1] == str(catalog.find(text).id)


def test_a_missing_row_is_refused_with_the_number_of_rows(registered: Callable[..., Catalog]) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no row 3. You have 2 models; %gguf models lists them"):
        registered("owner/old:Q4_0", "owner/new:Q8_0").find("#3")


def test_models_and_downloads_are_named_by_one_rule(registered: Callable[..., Catalog]) -> None:
    ids = ["owner/repo@v1:Q4_0", "owner/repo@v2:Q8_0", "other/repo-b:Q4_0"]
    catalog = registered(*ids)

    for text in ("owner/repo:q4_0", "repo:Q8_0", "REPO-B", "@v2", "other", "b:q4"):
        assert catalog.find(text).id == find_download(text, snapshot(*map(download, ids)))


def test_a_model_is_found_by_its_id_as_a_value(registered: Callable[..., Catalog]) -> None:
    assert registered("owner/repo:Q4_0").find(DownloadId("owner/repo", "Q4_0")).id.quantization == "Q4_0"


@pytest.mark.parametrize("text", ["owner/repo", "repo"])
def test_an_ambiguous_reference_lists_its_matches(registered: Callable[..., Catalog], text: str) -> None:
    with pytest.raises(AmbiguousQuantizationError, match="say which one") as caught:
        registered("owner/repo:Q4_0", "owner/repo:Q8_0").find(text)

    assert sorted(caught.value.choices) == ["owner/repo:Q4_0", "owner/repo:Q8_0"]


def test_an_unknown_model_gets_suggestions(registered: Callable[..., Catalog]) -> None:
    with pytest.raises(ModelNotFoundError, match=r"Did you mean owner/repo:Q4_K_M\?.*%gguf models"):
        registered("owner/repo:Q4_K_M", "zzz/other:Q8_0").find("owner/repo:Q4KM")


def test_an_empty_catalog_says_how_to_fill_it(catalog: Catalog) -> None:
    with pytest.raises(ModelNotFoundError, match="%gguf queue"):
        catalog.find("owner/repo")


def test_forgetting_a_model_forgets_its_files(registered: Callable[..., Catalog]) -> None:
    catalog = registered("owner/repo:Q4_0", "owner/repo:Q8_0")

    catalog.forget("owner/repo:Q4_0")

    assert [str(model.id) for model in catalog.models()] == ["owner/repo:Q8_0"]
    assert "/models/owner/repo/Q4_0.gguf" not in known_files(catalog.models())


def test_known_files_have_size_time_and_digest(catalog: Catalog) -> None:
    catalog.register(a_model("owner/repo:Q4_0", stored("/models/1.gguf"), stored("/models/2.gguf", sha256=None)))

    known = known_files(catalog.models())

    assert {path: (file.size_bytes, file.mtime_ns, file.sha256) for path, file in known.items()} == {
        "/models/1.gguf": (100, 1_700_000_000_123_456_789, SHA),
        "/models/2.gguf": (100, 1_700_000_000_123_456_789, None),
    }


def test_for_two_models_with_one_file_the_later_record_is_used(catalog: Catalog) -> None:
    catalog.register(a_model("owner/repo:Q4_0", stored("/models/1.gguf", mtime_ns=1)))
    catalog.register(a_model("owner/repo@v2:Q4_0", stored("/models/1.gguf", mtime_ns=2)))

    assert known_files(catalog.models())["/models/1.gguf"].mtime_ns == 2


def test_a_second_catalog_sees_what_the_first_wrote(catalog: Catalog, path: Path) -> None:
    catalog.register(a_model("owner/repo:Q4_0"))

    assert Catalog(path).models() == catalog.models()


def test_threads_write_and_read_concurrently(catalog: Catalog) -> None:
    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(catalog.register, a_model(f"owner/repo-{n}:Q4_0")) for n in range(40)]
        reads = [pool.submit(catalog.models) for _ in range(40)]

    assert [write.result() for write in writes] == [None] * 40
    assert all(len(model.files) == 1 for read in reads for model in read.result())
    assert len(catalog.models()) == 40


def _register_ten(path: Path, first: int) -> None:
    for number in range(first, first + 10):
        Catalog(path).register(a_model(f"owner/repo-{number}:Q4_0"))


@pytest.mark.slow
def test_processes_that_start_together_create_one_database(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_register_ten, args=(path, first)) for first in (0, 10, 20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(Catalog(path).models()) == 30


def test_a_reader_does_not_wait_for_a_writer(catalog: Catalog, path: Path) -> None:
    catalog.register(a_model("owner/repo:Q4_0"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        assert len(catalog.models()) == 1


def test_a_database_locked_by_another_program_is_reported(
    catalog: Catalog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.models()
    monkeypatch.setattr("gglib_nb.catalog.database._BUSY_TIMEOUT_S", 0.05)
    impatient = Catalog(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(CatalogError, match="another program has locked it"):
            impatient.register(a_model("owner/repo:Q4_0"))


def test_a_write_waits_for_another_program_to_finish(catalog: Catalog, path: Path) -> None:
    catalog.models()
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        soon = threading.Timer(0.1, other.execute, ["COMMIT"])
        soon.start()

        catalog.register(a_model("owner/repo:Q4_0"))

        soon.join()
    assert len(catalog.models()) == 1


def test_a_damaged_database_is_reported_in_one_sentence(catalog: Catalog, path: Path) -> None:
    for number in range(50):
        catalog.register(a_model(f"owner/repo-{number}:Q4_0"))
    catalog.close()  # which writes the log back to the file
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    path.write_bytes(damaged)

    with pytest.raises(CatalogDamagedError, match="it is damaged"):
        Catalog(path).models()


def test_a_folder_that_cannot_be_created_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(CatalogError, match="set GGLIB_STATE_DIR to another") as caught:
        Catalog(tmp_path / "file" / "db.sqlite3").models()
    assert "Errno" not in str(caught.value)


def test_a_read_only_database_is_reported_in_one_sentence(catalog: Catalog, path: Path) -> None:
    catalog.models()
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader,
        pytest.raises(sqlite3.OperationalError) as caught,
    ):
        reader.execute("DELETE FROM model")

    text = str(catalog_error(caught.value, path))
    assert text.endswith("it cannot be written; set GGLIB_STATE_DIR to a folder that you can write.")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OSError("no room")])
def test_an_error_without_a_file_is_reported_without_one(path: Path, error: OSError) -> None:
    text = str(catalog_error(error, path))

    check_sentence(text)
    assert "Errno" not in text


def test_a_database_deleted_while_a_kernel_runs_is_created_again(catalog: Catalog, path: Path) -> None:
    catalog.register(a_model("owner/repo:Q4_0"))
    path.unlink()

    assert catalog.models() == []


def test_a_closed_catalog_refuses_calls(catalog: Catalog) -> None:
    catalog.close()

    with pytest.raises(CatalogError, match="closed"):
        catalog.models()


def journal_mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def test_a_local_folder_gets_a_write_ahead_log(catalog: Catalog, path: Path) -> None:
    catalog.models()

    assert journal_mode(path) == "wal"


class OnNfs(Database):
    """A database whose folder is reported to be on NFS."""

    network = "nfs4"


def test_a_network_folder_gets_a_plain_journal(catalog: Catalog, path: Path) -> None:
    catalog.models()
    catalog.close()
    on_nfs = Catalog(OnNfs(path))

    on_nfs.register(a_model("owner/repo:Q4_0"))

    assert journal_mode(path) == "delete"


def test_the_test_filesystem_is_local(tmp_path: Path) -> None:
    assert network_filesystem(tmp_path) is None


def test_a_sandbox_that_does_not_list_its_mounts_has_a_database(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_options: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/proc/filesystems")

    monkeypatch.setattr("psutil.disk_partitions", refuse)

    assert Catalog(path).models() == []


def test_a_models_origin_and_details_are_read_back(catalog: Catalog) -> None:
    model = replace(
        a_model("local/found:Q4_0"),
        commit_sha=None,
        origin="local",
        checked_at_s=3000.0,
        latest_commit_sha="d" * 40,
        has_update=True,
    )

    catalog.register(model)

    assert catalog.models() == [model]


def test_a_verified_file_without_a_time_was_verified_when_its_model_was_registered(catalog: Catalog) -> None:
    catalog.register(a_model("owner/repo:Q4_0", stored("/models/1.gguf", verified_at_s=None), at_s=5000.0))

    assert catalog.models()[0].verified_at_s == 5000.0


def test_registering_a_known_file_again_keeps_its_verification_time(catalog: Catalog) -> None:
    catalog.register(a_model("owner/repo:Q4_0", stored("/models/1.gguf", verified_at_s=1000.0)))

    catalog.register(a_model("owner/repo:Q4_0", stored("/models/1.gguf", verified_at_s=None), at_s=5000.0))

    assert catalog.models()[0].verified_at_s == 1000.0


def test_updating_a_file_updates_it_in_every_model(catalog: Catalog) -> None:
    mmproj = stored("/models/mmproj.gguf", kind="mmproj")
    catalog.register(a_model("owner/repo:Q4_0", stored("/models/1.gguf"), mmproj))
    catalog.register(a_model("owner/repo:Q8_0", stored("/models/2.gguf"), mmproj))

    catalog.update_files([replace(mmproj, wrong_ranges=((0, 10),), verified_at_s=7000.0)])

    assert [model.files[1].wrong_ranges for model in catalog.models()] == [((0, 10),), ((0, 10),)]
    assert [model.is_verified for model in catalog.models()] == [False, False]


def test_a_file_with_changed_content_is_not_updated(catalog: Catalog) -> None:
    catalog.register(a_model("owner/repo:Q4_0", stored("/models/1.gguf", sha256=OTHER_SHA)))

    catalog.update_files([stored("/models/1.gguf", sha256=SHA, wrong_ranges=())])

    assert catalog.models()[0].files[0].wrong_ranges is None


def test_a_damaged_file_is_not_a_known_file(catalog: Catalog) -> None:
    catalog.register(a_model("owner/repo:Q4_0", stored("/models/1.gguf", wrong_ranges=())))

    assert known_files(catalog.models()) == {}


def test_a_check_for_a_newer_version_is_remembered(catalog: Catalog) -> None:
    catalog.register(a_model("owner/repo:Q4_0"))

    catalog.note_check(DownloadId("owner/repo", "Q4_0"), at_s=9000.0, latest_commit_sha="d" * 40, has_update=True)

    [model] = catalog.models()
    assert (model.checked_at_s, model.latest_commit_sha, model.has_update) == (9000.0, "d" * 40, True)


def test_a_split_model_has_the_parameters_of_all_its_shards() -> None:
    shards = [stored(f"/models/{number}.gguf", facts={"tensor_parameters": number}) for number in (30, 12)]

    assert a_model("owner/repo:Q4_0", *shards).parameter_count == 42


def test_the_parameters_are_unknown_if_one_shards_are() -> None:
    shards = [stored("/models/1.gguf", facts={"tensor_parameters": 30}), stored("/models/2.gguf", facts={})]

    assert a_model("owner/repo:Q4_0", *shards).parameter_count is None


def indexes(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {sha256 for (sha256,) in connection.execute("SELECT sha256 FROM content_index")}


def test_block_digests_are_kept_until_the_file_changes(catalog: Catalog, path: Path) -> None:
    first, second = a_model("owner/repo:Q4_0"), a_model("owner/other:Q8_0")
    for number, model in enumerate((first, second)):
        digest = str(number) * 64
        files = tuple(replace(file, sha256=digest, block_digests="00" * 8) for file in model.files)
        catalog.register(replace(model, files=files))

    catalog.forget(first.id)
    after_forgetting = indexes(path)
    catalog.register(replace(second, files=tuple(replace(file, sha256="2" * 64) for file in second.files)))

    assert after_forgetting == {"1" * 64}
    assert indexes(path) == set()
