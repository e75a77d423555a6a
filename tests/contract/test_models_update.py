"""New versions of models: changes are reported, and the new version replaces the old one only when completely verified."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gglib_nb import (
    AlreadyQueuedError,
    CatalogError,
    DownloadManager,
    InvalidQuantizationError,
    ModelNotFoundError,
    RequestError,
    StorageError,
)
from gglib_nb.catalog.store import Catalog
from gglib_nb.demo import Content, DemoFile, bytes_content
from gglib_nb.demo.content import joined_content
from gglib_nb.demo.gguf_writer import Tensor, gguf_content
from gglib_nb.domain.download import PlannedDownload
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import DownloadId
from gglib_nb.manager import model_operations, updating
from gglib_nb.manager.library import plan_deletion
from gglib_nb.manager.resolving import plan_download
from gglib_nb.manager.updating import settle_update
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verbs import parse
from tests.support.catalog_models import stored
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_files, make_repository
from tests.support.models import sha256_of
from tests.support.sentences import is_sentence

REPO = "demo/mended-GGUF"
NAME = "mended-Q4_K_M.gguf"
ID = f"{REPO}:Q4_K_M"


def gguf(template: str = "{{ a }}", weights: str = "first", rows: int = 64) -> Content:
    """A small model; another template moves its tensors, other weights are other bytes."""
    metadata = {"general.architecture": "llama", "tokenizer.chat_template": template}
    tensors = [Tensor(f"blk.{number}.weight", (32, rows), "F32") for number in range(3)]
    return gguf_content(metadata, tensors, weights)


def repository(**files: Content) -> list[DemoFile]:
    return make_files(
        {NAME: gguf(), "README.md": b"# mended\n"} | {name.replace("__", "."): one for name, one in files.items()}
    )


@pytest.fixture
def path(manager: DownloadManager, hub: FaultyHub) -> Path:
    hub.add_repository(make_repository(REPO, {NAME: gguf(), "README.md": b"# mended\n"}))
    return manager.sync.download(REPO)


def publish(hub: FaultyHub, content: Content | None, title: str = "Mend it", **others: Content | bytes) -> str:
    files: dict[str, Content | bytes] = {"README.md": b"# mended again\n", **others}
    if content is not None:
        files[NAME] = content
    return hub.move_branch(REPO, "main", make_files(files), title)


def update(manager: DownloadManager, text: str = "mended", **options: bool) -> None:
    queued = manager.sync.update(text, **options)
    assert queued.is_needed
    manager.sync.wait(queued.id)


def test_an_unchanged_model_is_reported_with_the_time_of_the_check(manager: DownloadManager, path: Path) -> None:
    [found] = manager.sync.check_updates()

    assert (found.has_update, found.changes, found.problem) == (False, (), "")
    [row] = manager.sync.models()
    assert row.has_update is False
    assert row.checked_at_s is not None


def test_another_commit_with_the_same_file_is_not_an_update(
    manager: DownloadManager, hub: FaultyHub, path: Path
) -> None:
    """gglib stores `rev:main` and calls every model outdated."""
    commit = publish(hub, gguf())

    [found] = manager.sync.check_updates("mended")

    assert (found.has_update, found.latest_commit_sha) == (False, commit)
    assert not manager.sync.update("mended").is_needed
    assert manager.catalog.models()[0].commit_sha == commit


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "change"),
    [
        (gguf(template="{{ a much longer template than the one before }}" * 9), "metadata"),
        (gguf(weights="second"), "tensors"),
        (gguf(rows=128), "tensors"),
        (bytes_content(b"no GGUF at all"), "content"),
        (None, "gone"),
    ],
    ids=["template", "weights", "shapes", "no GGUF", "gone"],
)
def test_changes_are_determined_from_the_header_and_a_few_samples(
    manager: DownloadManager, hub: FaultyHub, path: Path, content: Content | None, change: str
) -> None:
    publish(hub, content, "Fix the chat template")

    [found] = manager.sync.check_updates()

    assert found.has_update
    assert [file.change for file in found.changes] == [change]
    assert found.changes[0].commit_title == ("" if change == "gone" else "Fix the chat template")
    assert manager.sync.models()[0].has_update


def test_a_changed_chat_template_is_shown_as_a_diff(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    publish(hub, gguf(template="{{ bos }}\n<script>{{ a new line }}"))

    [found] = manager.sync.check_updates()

    [change] = found.changes
    assert "+<script>{{ a new line }}" in change.template_diff.splitlines()
    assert change.changed_keys == ()
    answer = parse("updates").run(Session(lambda: manager))
    assert "+<script>{{ a new line }}" in answer.text.splitlines()
    assert answer.html is not None
    assert "+&lt;script&gt;" in answer.html
    assert "<script>" not in answer.html


@pytest.mark.slow
def test_a_check_reports_an_update_although_it_cannot_be_recorded(
    manager: DownloadManager, hub: FaultyHub, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_fields: object) -> None:
        raise CatalogError("The disk is full.")

    publish(hub, gguf("{{ b }}"))
    monkeypatch.setattr(Catalog, "note_check", refuse)

    assert path.exists()
    assert [one.has_update for one in manager.sync.check_updates()] == [True]


def test_a_file_that_was_renamed_in_case_only_is_kept_where_both_names_are_one_file(
    manager: DownloadManager, hub: FaultyHub, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_on_macos(folder: Path) -> None:
        if (new := folder / NAME.lower()).exists():
            path.unlink()
            path.hardlink_to(new)

    monkeypatch.setattr(updating, "sync_folder", as_on_macos)
    publish(hub, None, **{NAME.lower(): gguf("{{ b }}")})

    update(manager)

    assert manager.sync.path("mended").name == NAME.lower()
    assert path.exists()


def test_a_check_changes_nothing(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    publish(hub, gguf(weights="second"))
    before = sha256_of(path)

    manager.sync.check_updates()

    assert sha256_of(path) == before
    assert manager.snapshot.items == ()
    assert manager.sync.models()[0].state == "verified"


@pytest.mark.slow
def test_the_same_bytes_under_another_name_are_not_an_update(
    manager: DownloadManager, hub: FaultyHub, path: Path
) -> None:
    publish(hub, None, **{"renamed-model-Q4_K_M.gguf": gguf()})

    [found] = manager.sync.check_updates()

    assert (found.has_update, found.changes) == (False, ())
    assert not manager.sync.update("mended").is_needed
    publish(hub, None, **{"no-label-at-all.gguf": gguf(), "another.gguf": gguf(weights="other")})
    assert not manager.sync.update("mended").is_needed
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    manager.sync.verify("mended")
    assert manager.sync.repair("mended").is_needed


def test_a_deleted_repository_affects_only_its_own_model(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    manager.catalog.register(Model(DownloadId("demo/nowhere", "Q4"), "c" * 40, None, (stored("/x.gguf"),), 1.0))

    found = {one.id: one for one in manager.sync.check_updates()}

    assert found[ID].has_update is False
    assert found["demo/nowhere:Q4"].has_update is None
    assert "demo/nowhere" in found["demo/nowhere:Q4"].problem


def test_an_update_replaces_the_old_version(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    content = gguf(weights="second")
    commit = publish(hub, content)
    with path.open("rb") as opened:
        before = sha256_of(path)

        update(manager)

        assert hashlib.file_digest(opened, "sha256").hexdigest() == before
    assert sha256_of(path) == content.sha256
    [model] = manager.catalog.models()
    assert (str(model.id), model.commit_sha, model.paths) == (ID, commit, (str(path),))
    assert manager.sync.models()[0].state == "verified"
    assert manager.snapshot.recent_completed[0].paths == (str(path),)
    assert sorted(one.name for one in path.parent.iterdir()) == [NAME]


@pytest.mark.slow
def test_the_old_version_is_kept_until_the_new_one_is_verified(
    manager: DownloadManager, hub: FaultyHub, path: Path
) -> None:
    """gglib deletes the old file before the new one exists."""
    before = sha256_of(path)
    publish(hub, gguf(weights="second"))
    hub.set_speed(bytes_per_second=0)

    queued = manager.sync.update("mended")
    manager.sync.cancel_download(queued.id)

    assert sha256_of(path) == before
    assert manager.sync.verify("mended").is_right


@pytest.mark.slow
def test_with_keep_both_versions_are_stored(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    old_commit, before = manager.catalog.models()[0].commit_sha, sha256_of(path)
    content = gguf(weights="second")
    publish(hub, content)

    update(manager, keep=True)

    assert sha256_of(path) == content.sha256
    old = manager.sync.path(f"{REPO}@{old_commit}:Q4_K_M")
    assert sha256_of(old) == before
    assert old == path.parent / f"@{(old_commit or '')[:8]}" / NAME
    assert {row.state for row in manager.sync.models()} == {"verified"}
    assert manager.sync.path(ID) == path


def test_a_deletion_that_is_run_again_keeps_the_kept_version(
    manager: DownloadManager, hub: FaultyHub, path: Path
) -> None:
    publish(hub, gguf(weights="second"))
    id_ = manager.sync.models()[0].id
    update(manager, keep=True)
    manager.sync.delete(id_)

    for discard in (manager.sync.delete, manager.sync.forget):
        with pytest.raises(ModelNotFoundError, match="Did you mean"):
            discard(id_)

    [kept] = manager.sync.models()
    assert Path(kept.path).exists()


def test_a_version_that_cannot_be_kept_is_not_replaced(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    manager.sync.forget("mended")
    manager.sync.import_folder(manager.config.models_directory)  # the folder does not state the commit
    before = sha256_of(path)
    publish(hub, gguf(weights="second"))

    with pytest.raises(RequestError, match="cannot be kept") as refused:
        manager.sync.update("mended", keep=True)

    assert is_sentence(str(refused.value))
    assert (sha256_of(path), manager.snapshot.items) == (before, ())
    update(manager)
    assert sha256_of(path) != before


def test_a_kept_version_has_no_update(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    publish(hub, gguf("{{ b }}"))
    manager.sync.check_updates()

    update(manager, keep=True)

    assert [model.has_update for model in manager.catalog.models()] == [False, False]


@pytest.mark.slow
def test_a_split_model_is_replaced_as_a_whole_and_loses_obsolete_shards(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    first = manager.sync.download("demo/split-GGUF")
    names = [f"Q4_K_M/split-Q4_K_M-{number:05}-of-00002.gguf" for number in (1, 2)]
    hub.move_branch("demo/split-GGUF", "main", make_files(dict.fromkeys(names, 150_000)))

    update(manager, "split")

    assert sorted(one.name for one in first.parent.iterdir()) == [name.rpartition("/")[2] for name in names]
    assert manager.sync.verify("split").is_right
    assert not (first.parents[1] / "@").exists()


@pytest.mark.slow
def test_a_companion_used_by_another_model_keeps_its_name(manager: DownloadManager, hub: FaultyHub) -> None:
    manager.sync.download("demo/vision-GGUF", companions=("mmproj",))
    projector = manager.catalog.models()[0].files[1]
    manager.catalog.register(Model(DownloadId("demo/other", "Q8_0"), None, None, (projector,), 1.0))
    before = sha256_of(Path(projector.target))
    hub.move_branch(
        "demo/vision-GGUF", "main", make_files({"vision-Q4_K_M.gguf": 70_000, "mmproj-vision-F16.gguf": 30_000})
    )

    update(manager, "vision")

    assert sha256_of(Path(projector.target)) == before
    assert manager.sync.verify("demo/other").is_right
    assert manager.sync.verify("vision").is_right


@pytest.mark.slow
def test_an_update_of_a_removed_variant_is_refused_with_the_choices(
    manager: DownloadManager, hub: FaultyHub, path: Path
) -> None:
    publish(hub, None, **{"mended-Q8_0.gguf": gguf(weights="second")})

    with pytest.raises(InvalidQuantizationError) as caught:
        manager.sync.update("mended")

    assert caught.value.choices == ("Q8_0",)


@pytest.mark.slow
def test_an_update_without_the_projector_that_was_removed_says_how(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.add_repository(make_repository(REPO, {NAME: gguf(), "mmproj-F16.gguf": 20_000}))
    manager.sync.download(REPO, companions=("mmproj",))
    publish(hub, gguf("{{ b }}"))

    with pytest.raises(RequestError, match=f"has no mmproj for Q4_K_M.*: %gguf queue {ID} --force"):
        manager.sync.update("mended")

    manager.sync.download(REPO, force=True)
    [now] = manager.sync.check_updates()
    assert now.has_update is False


def test_a_running_update_is_not_started_twice(manager: DownloadManager, hub: FaultyHub, path: Path) -> None:
    publish(hub, gguf(weights="second"))
    hub.set_speed(bytes_per_second=0)
    first = manager.sync.update("mended")

    second = manager.sync.update("mended")

    assert (second.id, second.position) == (first.id, 0)
    with pytest.raises(AlreadyQueuedError):
        manager.sync.delete("mended")
    manager.sync.cancel_all()


@pytest.mark.parametrize("has_update", [False, True])
def test_a_model_that_was_deleted_while_the_hub_answered_is_not_registered_again(
    manager: DownloadManager, hub: FaultyHub, path: Path, monkeypatch: pytest.MonkeyPatch, has_update: bool
) -> None:
    publish(hub, gguf(weights="second") if has_update else gguf())

    def plan(*args: Any) -> PlannedDownload:
        planned = plan_download(*args)
        manager.sync.delete("mended")
        return planned

    monkeypatch.setattr(model_operations, "plan_download", plan)
    with pytest.raises(ModelNotFoundError):
        manager.sync.update("mended")

    assert (manager.catalog.models(), manager.snapshot.items) == ([], ())


def test_files_of_another_program_are_not_updated(manager: DownloadManager) -> None:
    manager.catalog.register(Model(DownloadId("a/b", "Q4"), "c" * 40, None, (stored("/else/b.gguf"),), 1.0, "import"))

    with pytest.raises(RequestError, match="outside of the models folder"):
        manager.sync.update("a/b")


# Interruptions


class KilledError(Exception):
    """Simulates a kill at one step."""


@pytest.mark.parametrize("step", range(1, 5))
def test_after_an_interruption_at_any_step_the_catalog_has_a_complete_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    models = tmp_path / "models"
    catalog = Catalog(tmp_path / "db.sqlite3")
    old, new = (version(models, commit, folder) for commit, folder in (("a" * 40, ""), ("b" * 40, "@bbbbbbbb")))
    catalog.register(old)
    calls = iter(range(1, 99))
    link = __import__("os").link

    def link_or_die(*arguments: object) -> None:
        if next(calls) == step:
            raise KilledError
        link(*arguments)

    monkeypatch.setattr("os.link", link_or_die)
    with pytest.raises(KilledError):
        settle_update(catalog, new, models, keeps_old=True)
    monkeypatch.setattr("os.link", link)

    (found,) = [model for model in catalog.models() if model.id == old.id]
    assert contents(found) in ([b"a1", b"a2"], [b"b1", b"b2"])

    settle_update(catalog, new, models, keeps_old=True)
    found, kept = (catalog.find(text) for text in (str(old.id), f"x/y@{'a' * 40}:Q4"))
    assert (contents(found), contents(kept)) == ([b"b1", b"b2"], [b"a1", b"a2"])
    assert found.paths == old.paths


def fail_to_rename(manager: DownloadManager, hub: FaultyHub, content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update whose new version cannot get the names of the old one."""

    def die(*_arguments: object) -> None:
        raise OSError(5, "Input/output error")

    publish(hub, content)
    with monkeypatch.context() as patched:
        patched.setattr(updating, "_moved", die)
        with pytest.raises(StorageError):
            update(manager)
    manager.sync.cancel_all()


def test_deleting_a_model_after_an_interrupted_update_leaves_no_old_file(
    manager: DownloadManager, hub: FaultyHub, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_rename(manager, hub, gguf(weights="second"), monkeypatch)
    assert "@" in manager.sync.find_model("mended").paths[0]

    planned = manager.sync.delete("mended", dry_run=True)
    manager.sync.delete("mended")

    assert str(path) in planned.deleted
    assert not path.parent.parent.exists()


def test_a_repair_of_an_interrupted_update_keeps_what_that_has_to_delete_and_update_finishes_it(
    manager: DownloadManager, hub: FaultyHub, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = gguf(weights="second")
    fail_to_rename(manager, hub, content, monkeypatch)
    manager.sync.path("mended").write_bytes(b"damaged")

    manager.sync.wait(manager.sync.repair("mended").id)
    repaired = manager.catalog.models()[0].replaces
    is_needed = manager.sync.update("mended").is_needed

    assert (repaired, is_needed) == ((str(path),), False)
    assert manager.catalog.models()[0].replaces == ()
    assert sha256_of(path) == content.sha256
    assert [one.name for one in path.parent.iterdir()] == [NAME]


@pytest.mark.parametrize("following", ["update", "delete"])
def test_a_forced_download_after_an_interrupted_update_leaves_the_other_copy_to_a_later_update_or_deletion(
    manager: DownloadManager, hub: FaultyHub, path: Path, monkeypatch: pytest.MonkeyPatch, following: str
) -> None:
    fail_to_rename(manager, hub, gguf(weights="second"), monkeypatch)
    [copy] = manager.catalog.models()[0].paths
    manager.sync.wait(manager.sync.queue_smart(REPO, force=True).id)
    [model] = manager.catalog.models()

    getattr(manager.sync, following)("mended")

    assert (model.paths, model.replaces) == ((str(path),), (copy,))
    assert [str(one) for one in manager.config.models_directory.rglob("*.gguf")] == [str(path)] * (
        following == "update"
    )


def interrupt(monkeypatch: pytest.MonkeyPatch, catalog: Catalog, new: Model, models: Path) -> None:
    """Starts an update, and ends it when it gives the new version its names."""

    def die(*_arguments: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(updating, "_moved", die)
        with pytest.raises(KilledError):
            settle_update(catalog, new, models, keeps_old=False)


def test_an_update_that_is_finished_later_deletes_the_shards_of_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, catalog = tmp_path / "models", Catalog(tmp_path / "db.sqlite3")
    old, new = (version(models, commit, folder) for commit, folder in (("a" * 40, ""), ("b" * 40, "@bbbbbbbb")))
    catalog.register(old)
    Path(new.files[1].target).unlink()
    new = replace(new, files=new.files[:1])
    interrupt(monkeypatch, catalog, new, models)

    [found] = catalog.models()
    settle_update(catalog, found, models, keeps_old=False)

    assert [path.name for path in (models / "x/y").iterdir()] == ["1.gguf"]
    assert catalog.models()[0].replaces == ()


def test_a_version_that_is_kept_after_an_interrupted_update_replaces_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, catalog = tmp_path / "models", Catalog(tmp_path / "db.sqlite3")
    old, new, newest = (
        version(models, commit * 40, folder) for commit, folder in (("a", ""), ("b", "@bbbbbbbb"), ("c", "@cccccccc"))
    )
    catalog.register(old)
    interrupt(monkeypatch, catalog, new, models)

    settle_update(catalog, newest, models, keeps_old=True)

    found = {model.commit_sha: model for model in catalog.models()}
    assert [model.replaces for model in found.values()] == [(), ()]
    assert contents(found["b" * 40]) == [b"b1", b"b2"]
    assert contents(found["c" * 40]) == [b"c1", b"c2"]
    catalog.forget(found["c" * 40].id)
    assert set(plan_deletion(found["b" * 40], catalog.models()).deleted) == found["b" * 40].targets


def test_a_deletion_after_an_interrupted_update_keeps_a_file_of_that_name_from_a_model_that_was_forgotten(
    manager: DownloadManager, hub: FaultyHub, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    projector = path.with_name("mmproj-F16.gguf")
    projector.write_bytes(b"of another model")
    [model] = manager.catalog.models()
    at_version = path.parent / "@bbbbbbbb" / projector.name
    at_version.parent.mkdir()
    at_version.write_bytes(b"new")
    manager.catalog.register(replace(model, files=(*model.files, stored(str(at_version), 3, kind="mmproj"))))

    manager.sync.delete("mended")

    assert projector.read_bytes() == b"of another model"
    assert not at_version.exists()


def test_an_update_replaces_no_file_that_the_old_version_did_not_have(tmp_path: Path) -> None:
    models, catalog = tmp_path / "models", Catalog(tmp_path / "db.sqlite3")
    old, new = (version(models, commit, folder) for commit, folder in (("a" * 40, ""), ("b" * 40, "@bbbbbbbb")))
    catalog.register(replace(old, files=old.files[:1]))  # the other file is a user's own

    files = settle_update(catalog, new, models, keeps_old=False)

    assert contents(replace(new, files=files)) == [b"b1", b"b2"]
    assert (models / "x/y/2.gguf").read_bytes() == b"a2"


def test_an_update_that_cannot_get_its_name_leaves_no_second_one(tmp_path: Path) -> None:
    models, catalog = tmp_path / "models", Catalog(tmp_path / "db.sqlite3")
    old, new = (version(models, commit, folder) for commit, folder in (("a" * 40, ""), ("b" * 40, "@bbbbbbbb")))
    catalog.register(old)
    (models / "x/y/1.gguf").unlink()
    (models / "x/y/1.gguf").mkdir()

    with pytest.raises(StorageError, match="could not replace"):
        settle_update(catalog, new, models, keeps_old=False)

    assert sorted(path.name for path in models.glob("x/y/*")) == ["1.gguf", "2.gguf", "@bbbbbbbb"]


def test_an_update_deletes_no_file_of_another_program(tmp_path: Path) -> None:
    models, catalog = tmp_path / "models", Catalog(tmp_path / "db.sqlite3")
    old, new = (version(models, commit, folder) for commit, folder in (("a" * 40, ""), ("b" * 40, "@bbbbbbbb")))
    catalog.register(old)
    theirs = models / "x/y/1.gguf.new"
    theirs.write_bytes(b"theirs")

    files = settle_update(catalog, new, models, keeps_old=False)

    assert contents(replace(new, files=files)) == [b"b1", b"b2"]
    assert theirs.read_bytes() == b"theirs"


@pytest.mark.parametrize("step", range(1, 5))
@pytest.mark.parametrize("has_links", [True, False])
def test_a_retried_update_still_keeps_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, has_links: bool
) -> None:
    models, catalog = tmp_path / "models", Catalog(tmp_path / "db.sqlite3")
    old, new = (version(models, commit, folder) for commit, folder in (("a" * 40, ""), ("b" * 40, "@bbbbbbbb")))
    catalog.register(old)
    calls = iter(range(1, 99))
    replace_file = Path.replace

    def full_once(source: Path, place: Path) -> Path:
        if next(calls) == step:
            raise OSError(28, "No space left on device")
        return replace_file(source, place)

    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", full_once)
    if not has_links:
        monkeypatch.setattr("os.link", no_links)

    with pytest.raises(StorageError):
        settle_update(catalog, new, models, keeps_old=True)
    settle_update(catalog, new, models, keeps_old=True)

    found, kept = (catalog.find(text) for text in (str(old.id), f"x/y@{'a' * 40}:Q4"))
    assert (contents(found), contents(kept)) == ([b"b1", b"b2"], [b"a1", b"a2"])


def contents(model: Model) -> list[bytes]:
    return [Path(path).read_bytes() for path in model.paths]


def version(models: Path, commit: str, folder: str) -> Model:
    files = []
    for number in (1, 2):
        path = models / "x" / "y" / folder / f"{number}.gguf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{commit[0]}{number}".encode())
        files.append(stored(str(path), 2, sha256=commit[0] * 64))
    return Model(DownloadId("x/y", "Q4"), commit, None, tuple(files), 1.0)


def test_a_model_of_a_renamed_repository_is_updated_repeatedly_in_place(
    manager: DownloadManager, hub: FaultyHub, path: Path
) -> None:
    renamed = hub.add_repository(make_repository("demo/new-name-GGUF", {NAME: gguf()}, renamed_from=(REPO,)))
    del hub._hub.repositories[REPO]

    for weights in ("second", "third"):
        content = gguf(weights=weights)
        hub.move_branch(renamed.repo_id, "main", make_files({NAME: content}), "New weights")
        update(manager)

        assert sha256_of(path) == content.sha256
        assert [row.state for row in manager.sync.models()] == ["verified"]
        assert not list(path.parent.glob("@*"))


LARGE = 40_000_000
"""Bytes of a tensor; two of them are more than the Hub's client reads of a file at once (67.1 MB)."""


@pytest.mark.parametrize(
    ("template", "weights", "change"),
    [("{{ a longer template than before }}", "first", "metadata"), ("{{ a }}", "second", "tensors")],
)
def test_a_change_of_a_large_file_is_detected_from_its_middle_and_end(
    manager: DownloadManager, hub: FaultyHub, template: str, weights: str, change: str
) -> None:
    def large(template: str, weights: str) -> Content:
        metadata = {"general.architecture": "llama", "tokenizer.chat_template": template}
        return gguf_content(metadata, [Tensor(f"blk.{n}.weight", (LARGE,), "I8") for n in range(2)], weights)

    hub.add_repository(make_repository(REPO, {NAME: large("{{ a }}", "first")}))
    manager.sync.download(REPO)
    publish(hub, large(template, weights))
    before = hub.bytes_sent()

    [found] = manager.sync.check_updates()

    assert ([file.change for file in found.changes], found.problem) == ([change], "")
    assert hub.bytes_sent() - before < LARGE / 4


@pytest.mark.slow
def test_a_large_file_is_not_read_completely_to_find_changes(manager: DownloadManager, hub: FaultyHub) -> None:
    large = gguf(rows=20_000)
    hub.add_repository(make_repository(REPO, {NAME: large}))
    manager.sync.download(REPO)
    publish(hub, joined_content([gguf(rows=20_000, weights="second")]))
    before = hub.bytes_sent()

    manager.sync.check_updates()

    assert hub.bytes_sent() - before < large.size_bytes / 4


def test_downloading_a_file_that_was_uploaded_again_suggests_update(
    manager: DownloadManager, hub: FaultyHub, path: Path
) -> None:
    before = sha256_of(path)
    content = gguf(weights="second")
    publish(hub, content)

    with pytest.raises(RequestError, match=f"%gguf update {ID}"):
        manager.sync.download(ID.partition(":")[0], "Q4_K_M")
    unchanged = sha256_of(path)
    manager.sync.download(REPO, "Q4_K_M", force=True)

    assert (unchanged, sha256_of(path)) == (before, content.sha256)


@pytest.mark.slow
def test_an_update_that_keeps_the_old_version_does_not_join_one_that_does_not(
    manager: DownloadManager, hub: FaultyHub, path: Path
) -> None:
    publish(hub, gguf(weights="second", rows=4000))
    hub.set_speed(20_000)
    manager.sync.update("mended")

    with pytest.raises(AlreadyQueuedError):
        manager.sync.update("mended", keep=True)

    manager.sync.cancel_download(ID)


@pytest.mark.slow
def test_the_partial_files_of_an_update_are_resumed_as_one_download(
    manager: DownloadManager, hub: FaultyHub, path: Path
) -> None:
    content = gguf(weights="second", rows=16_000)
    publish(hub, content)
    hub.set_speed(1_000_000)
    manager.sync.update("mended")
    hub.wait_for(lambda _records: hub.bytes_sent(NAME) > 2_000_000)
    hub.set_speed(0)
    manager.sync.cancel_all()
    manager.sync.clear_ended("cancelled")
    hub.set_speed(None)

    [resumed] = manager.sync.queue_partials()
    manager.sync.wait(resumed)

    assert str(resumed) == ID
    assert sha256_of(path) == content.sha256
    assert manager.sync.partials() == []
