"""Inspect, compare, export, import and prune, with the embedded hub, real files and a real catalog."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gglib_nb import DownloadManager, IntegrityError, ModelNotFoundError, RequestError, StorageError
from gglib_nb.manager import library
from gglib_nb.notebook.actions import act
from gglib_nb.notebook.messages import Act
from gglib_nb.notebook.messages import Answer as PanelAnswer
from gglib_nb.notebook.session import Screen, Session
from gglib_nb.notebook.verb import GrammarError
from gglib_nb.notebook.verbs import parse
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_files, make_repository, small_gguf
from tests.support.related import RELATED, move_to, related_repository
from tests.support.sentences import is_sentence

SMALL, REPO = "demo/small-GGUF:Q4_K_M", "demo/small-GGUF"
SPLIT = "demo/split-GGUF:Q4_K_M"


class Asked(Screen):
    """A terminal whose user gives one answer to every question."""

    def __init__(self, answer: bool | None) -> None:
        super().__init__()
        self._answer = answer
        self.questions: list[str] = []

    @property
    def can_ask(self) -> bool:
        return self._answer is not None

    def ask(self, question: str) -> bool:
        self.questions.append(question)
        return bool(self._answer)


def say(manager: DownloadManager, line: str, screen: Screen | None = None) -> str:
    """The answer to a line of `%gguf`."""
    return parse(line).run(Session(lambda: manager, screen or Screen())).text


def transferred(hub: FaultyHub, path: str) -> int:
    return sum(one.sent_bytes for one in hub.requests if path in one.path)


# Folders that a user names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [f"queue {SMALL} --to ''", "export small ''", "import ''", "export small ' '"])
def test_an_empty_folder_is_refused(manager: DownloadManager, line: str) -> None:
    if line.startswith("export"):
        manager.sync.download(REPO, "Q4_K_M")

    with pytest.raises(RequestError, match="it must be the path of a folder"):
        say(manager, line)


class BytesPath:
    """As `os.scandir(b".")` returns them."""

    def __fspath__(self) -> bytes:
        return b"models"


def test_a_path_of_bytes_is_refused_for_a_folder(manager: DownloadManager) -> None:
    with pytest.raises(RequestError, match="it must be the path of a folder"):
        manager.sync.queue_smart(REPO, "Q4_K_M", to=BytesPath())
    with pytest.raises(RequestError, match="it must be the path of a folder"):
        manager.sync.import_folder(BytesPath())


def test_a_folder_above_is_stored_without_its_dots(manager: DownloadManager, tmp_path: Path) -> None:
    (tmp_path / "one" / "two").mkdir(parents=True)

    path = manager.sync.download(REPO, "Q4_K_M", to=tmp_path / "one" / "two" / ".." / "..")

    assert path == tmp_path / REPO / "small-Q4_K_M.gguf"


def test_a_named_folder_may_begin_with_a_variable(
    manager: DownloadManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()

    say(manager, f"queue {SMALL} --to $SCRATCH")
    manager.sync.wait(SMALL)
    exported = manager.sync.export(["small", SMALL], "$SCRATCH/bundle")

    assert (tmp_path / "scratch" / REPO / "small-Q4_K_M.gguf").is_file()
    assert (exported.folder, exported.models) == (str(tmp_path / "scratch" / "bundle"), (SMALL,))


def test_a_bundle_may_be_in_a_folder_with_spaces(manager: DownloadManager, tmp_path: Path) -> None:
    manager.sync.download(REPO, "Q4_K_M")
    folder = tmp_path / "für  die Reise"

    assert str(folder) in say(manager, f"export small '{folder}'")

    assert (folder / REPO / "small-Q4_K_M.gguf").exists()


def test_one_model_is_exported_and_none_is_refused(manager: DownloadManager, tmp_path: Path) -> None:
    manager.sync.download(REPO, "Q4_K_M")

    assert manager.sync.export("small", tmp_path / "bundle").models == (SMALL,)
    with pytest.raises(RequestError, match="Name at least one model"):
        manager.sync.export([], tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_a_bundle_of_a_model_in_another_folder_is_not_copied_again(manager: DownloadManager, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    path = manager.sync.download(REPO, "Q4_K_M", to=tmp_path / "big")
    manager.sync.export([SMALL], tmp_path / "bundle")

    [model] = manager.sync.import_folder(tmp_path / "bundle").imported

    assert (model.path, model.origin, model.state) == (str(path), "hub", "verified")
    assert not (tmp_path / "models" / REPO).exists()


def test_a_model_on_a_disk_that_is_not_mounted_stays_on_the_list(manager: DownloadManager, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    manager.sync.download(REPO, "Q4_K_M", to=disk)
    disk.rename(tmp_path / "away")

    with pytest.raises(StorageError, match="If its disk is not mounted"):
        say(manager, "delete small --yes")

    assert [model.id for model in manager.sync.models()] == [SMALL]
    say(manager, "forget small")
    assert manager.sync.models() == []


def test_a_broken_manifest_is_named_without_internals(manager: DownloadManager, tmp_path: Path) -> None:
    (tmp_path / "gglib-bundle.json").write_text('{"models": [{"id": 3}]}')

    with pytest.raises(RequestError) as refusal:
        say(manager, f"import {tmp_path}")

    assert "is not the manifest of a bundle" in str(refusal.value)
    assert "$" not in str(refusal.value)


@pytest.mark.parametrize("is_known_wrong", [True, False])
def test_the_verb_path_warns_of_a_file_that_is_not_as_recorded(
    manager: DownloadManager, capsys: pytest.CaptureFixture[str], is_known_wrong: bool
) -> None:
    path = manager.sync.download(REPO, "Q4_K_M")
    assert say(manager, "path small") == str(path)
    assert capsys.readouterr().out == ""
    path.write_bytes(bytes(path.stat().st_size))
    if is_known_wrong:
        manager.sync.verify(SMALL)

    assert say(manager, "path small") == str(path)

    warning = capsys.readouterr().out.strip()
    assert is_sentence(warning)
    assert warning.endswith(f"%gguf verify {SMALL}")


def test_the_verb_path_counts_as_a_use(manager: DownloadManager) -> None:
    path = manager.sync.download(REPO, "Q4_K_M")
    assert manager.sync.models()[0].last_used_at_s is None

    assert say(manager, "path small") == str(path)

    assert manager.sync.models()[0].last_used_at_s is not None
    path.unlink()
    with pytest.raises(ModelNotFoundError, match="is missing"):
        say(manager, "path small")


# Inspect --------------------------------------------------------------------------------------------------------------


def test_a_model_can_be_inspected_without_downloading_it(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    inspection = manager.sync.inspect(SMALL)

    assert (inspection.architecture, inspection.path, inspection.name) == ("llama", None, SMALL)
    assert inspection.tensors
    assert inspection.size_bytes == 300_000
    assert manager.sync.models() == []
    assert not list((tmp_path / "models").rglob("*.gguf"))


def test_an_inspection_is_the_same_before_and_after_the_download(manager: DownloadManager) -> None:
    before = manager.sync.inspect(SMALL)
    path = manager.sync.download(REPO, "Q4_K_M")

    after = manager.sync.inspect("small")

    assert after.path == str(path)
    assert (after.metadata, after.tensors, after.chat_templates) == (
        before.metadata,
        before.tensors,
        before.chat_templates,
    )


def test_a_part_of_an_id_is_compared_with_the_hub(manager: DownloadManager) -> None:
    manager.sync.download(REPO, "Q4_K_M")

    assert f"{SMALL} here and on the Hub: the metadata is the same." in say(manager, "inspect small --hub")


def test_a_changed_template_is_shown_as_a_diff_between_here_and_the_hub(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    hub.add_repository(related_repository())
    manager.sync.download(RELATED, "Q4_K_M")
    move_to(hub, chat_template="{{ other }}")

    text = say(manager, "inspect related --hub")

    assert "The chat template is different:\n--- here\n+++ on the Hub\n" in text
    assert "+{{ other }}" in text


def test_only_a_model_of_yours_is_compared_with_the_hub(manager: DownloadManager) -> None:
    with pytest.raises(ModelNotFoundError):
        say(manager, f"inspect {SMALL} --hub")


def test_a_model_of_unknown_repository_is_not_compared_with_a_strangers(
    manager: DownloadManager, hub: FaultyHub, tmp_path: Path
) -> None:
    path = manager.sync.download(REPO, "Q4_K_M")
    (tmp_path / "own").mkdir()
    path.rename(tmp_path / "own" / "own.gguf")
    manager.sync.forget("small")
    manager.sync.import_folder(tmp_path / "own")
    asked = len(hub.requests)

    for ask in (manager.sync.compare, lambda id_: manager.sync.inspect(id_, on_hub=True)):
        with pytest.raises(RequestError, match="is unknown"):
            ask("local/own")

    assert len(hub.requests) == asked


def test_an_export_into_a_folder_that_cannot_be_searched_is_refused(
    manager: DownloadManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.sync.download(REPO, "Q4_K_M")
    real = os.stat

    def look(path: object, *args: object, **options: object) -> os.stat_result:
        if isinstance(path, str | Path) and Path(path).parent == tmp_path / "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", look)

    with pytest.raises(StorageError, match=r"locked.* cannot be used: Permission denied\. Check the path"):
        manager.sync.export(SMALL, tmp_path / "locked")


def test_an_inspection_covers_all_shards(manager: DownloadManager) -> None:
    before = manager.sync.inspect(SPLIT)
    manager.sync.download("demo/split-GGUF", "Q4_K_M")

    after = manager.sync.inspect(SPLIT)

    assert before.tensors == after.tensors
    assert sum(group.tensor_count for group in after.tensors) > 1


def test_a_model_is_compared_with_the_current_version_on_the_hub(manager: DownloadManager) -> None:
    manager.sync.download(REPO, "Q4_K_M")

    comparison = manager.sync.compare(SMALL)

    assert (comparison.keys, comparison.is_same_template) == ((), True)


def test_a_text_that_is_neither_a_model_nor_a_repository_is_refused(manager: DownloadManager) -> None:
    with pytest.raises(ModelNotFoundError):
        manager.sync.inspect("nothing")


def test_a_variant_on_the_hub_is_not_taken_for_a_longer_label_on_the_disk(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    hub.add_repository(make_repository("demo/l-GGUF", {"l-Q6_K.gguf": 3_000, "l-Q6_K_L.gguf": 4_000}))
    manager.sync.download("demo/l-GGUF", "Q6_K_L")

    on_hub, part = manager.sync.inspect("demo/l-GGUF:Q6_K"), manager.sync.inspect("demo/l-GGUF:Q6")

    assert (on_hub.name, on_hub.path) == ("demo/l-GGUF:Q6_K", None)
    assert (part.name, part.path is None) == ("demo/l-GGUF:Q6_K_L", False)


def test_a_prune_says_that_models_of_other_folders_are_kept(manager: DownloadManager, tmp_path: Path) -> None:
    own = tmp_path / "own" / "own-Q8_0.gguf"
    own.parent.mkdir()
    own.write_bytes(manager.sync.download(REPO, "Q4_K_M").read_bytes())
    say(manager, "delete small --yes")
    manager.sync.import_folder(own.parent)

    assert "were imported from another folder" in say(manager, "prune --keep 1kB --yes")
    assert own.exists()


def test_a_deletion_takes_no_id_for_the_beginning_of_another(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.add_repository(make_repository("demo/l-GGUF", {"l-Q6_K.gguf": 3_000, "l-Q6_K_L.gguf": 4_000}))
    path = manager.sync.download("demo/l-GGUF", "Q6_K_L")

    by_verb = (lambda id_, line=line: say(manager, line.format(id_)) for line in ("delete {} --yes", "forget {}"))
    for delete in (manager.sync.delete, manager.sync.forget, *by_verb):
        with pytest.raises(ModelNotFoundError, match=r"Did you mean demo/l-GGUF:Q6_K_L\?$"):
            delete("demo/l-GGUF:Q6_K")

    assert path.exists()
    assert say(manager, "delete l-gguf --yes").startswith("Deleted demo/l-GGUF:Q6_K_L")


def test_a_prune_deletes_no_other_model_than_it_chose_while_another_kernel_prunes(
    make_manager: Callable[..., DownloadManager], hub: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_repository(
        make_repository("demo/l-GGUF", {f"l-{label}.gguf": 50_000 for label in ("Q2_K", "Q4_K", "Q4_K_M")})
    )
    manager, other = make_manager(), make_manager()
    paths = [manager.sync.download("demo/l-GGUF", label) for label in ("Q2_K", "Q4_K", "Q4_K_M")]
    delete_files, others = library.delete_files, iter(["demo/l-GGUF:Q4_K"])

    def delete_meanwhile(*args: Any) -> None:
        for id_ in others:
            other.sync.delete(id_)
        delete_files(*args)

    monkeypatch.setattr(library, "delete_files", delete_meanwhile)
    manager.sync.prune(keep_bytes=60_000)

    assert [path.exists() for path in paths] == [False, False, True]
    assert [model.id for model in manager.sync.models()] == ["demo/l-GGUF:Q4_K_M"]


async def test_inspect_is_also_a_coroutine(manager: DownloadManager) -> None:
    assert (await manager.inspect(SMALL)).architecture == "llama"


def test_the_verb_shows_text_and_html(manager: DownloadManager) -> None:
    answer = parse(f"inspect {SMALL}").run(Session(lambda: manager))

    assert "general.architecture" in answer.text
    assert answer.html is not None
    assert "<details>" in answer.html


def test_the_verb_compares_two_models(manager: DownloadManager) -> None:
    keys = {one.key for one in manager.sync.compare(SMALL, SPLIT).keys}

    assert "(tensors)" in keys
    assert "split.count" in say(manager, f"inspect {SMALL} {SPLIT}")
    with pytest.raises(GrammarError):
        parse(f"inspect {SMALL} {SMALL} --hub").run(Session(lambda: manager))


# Export and import ----------------------------------------------------------------------------------------------------


def test_a_model_moved_to_another_machine_can_be_updated(
    make_manager: Callable[..., DownloadManager], tmp_path: Path
) -> None:
    here = make_manager()
    here.sync.download("demo/split-GGUF", "Q4_K_M")
    there = make_manager(models_directory=tmp_path / "there", state_directory=tmp_path / "there-state")

    report = here.sync.export([SPLIT], tmp_path / "bundle")
    imported = there.sync.import_folder(tmp_path / "bundle").imported

    assert report.models == (SPLIT,)
    assert [(model.id, model.state, model.file_count) for model in imported] == [(SPLIT, "verified", 3)]
    assert imported[0].commit_sha == here.catalog.find(SPLIT).commit_sha
    assert Path(there.sync.path("split")).is_relative_to(tmp_path / "there")
    assert [update.has_update for update in there.sync.check_updates()] == [False]


def test_a_damaged_bundle_is_refused_and_not_registered(
    make_manager: Callable[..., DownloadManager], tmp_path: Path
) -> None:
    here = make_manager()
    here.sync.download(REPO, "Q4_K_M")
    there = make_manager(models_directory=tmp_path / "there", state_directory=tmp_path / "there-state")
    here.sync.export([SMALL], tmp_path / "bundle")
    (carried,) = (tmp_path / "bundle").rglob("*.gguf")
    data = bytearray(carried.read_bytes())
    data[1_000] ^= 1
    carried.unlink()
    carried.write_bytes(data)

    with pytest.raises(IntegrityError):
        there.sync.import_folder(tmp_path / "bundle")

    assert there.sync.models() == []
    assert list((tmp_path / "there").rglob("*.gguf")) == []


def test_a_hostile_manifest_is_refused(manager: DownloadManager, tmp_path: Path) -> None:
    (tmp_path / "gglib-bundle.json").write_text('{"models": [{"id": "../..", "files": []}]}')

    with pytest.raises(RequestError):
        manager.sync.import_folder(tmp_path)


def test_the_verbs_export_and_import_work(make_manager: Callable[..., DownloadManager], tmp_path: Path) -> None:
    here = make_manager()
    here.sync.download(REPO, "Q4_K_M")
    here.sync.download(REPO, "Q8_0")
    there = make_manager(models_directory=tmp_path / "there", state_directory=tmp_path / "there-state")

    exported = say(here, f"export {SMALL} {REPO}:Q8_0 {tmp_path / 'bundle'}")
    say(there, f"import {tmp_path / 'bundle'}")

    assert str(tmp_path / "bundle") in exported
    assert {model.id for model in there.sync.models()} == {SMALL, f"{REPO}:Q8_0"}
    with pytest.raises(GrammarError):
        say(here, "export onlyfolder")


# Prune ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_models(manager: DownloadManager) -> DownloadManager:
    """A model used just now, and an unused one."""
    manager.sync.download(REPO, "Q4_K_M")
    manager.sync.download(REPO, "Q8_0")
    for model in manager.catalog.models():
        os.utime(model.paths[0], (1_000.0, 1_000.0))
        manager.catalog.update_files([_at_time(file, 1_000_000_000_000) for file in model.files])
    manager.sync.path(SMALL)
    return manager


def _at_time(file: object, mtime_ns: int) -> object:
    from dataclasses import replace

    return replace(file, mtime_ns=mtime_ns)  # type: ignore[type-var]


def test_a_dry_run_deletes_nothing(two_models: DownloadManager) -> None:
    plan = two_models.sync.prune(keep_bytes=350_000, dry_run=True)

    assert [model.id for model in plan.models] == [f"{REPO}:Q8_0"]
    assert len(two_models.sync.models()) == 2


def test_the_least_recently_used_model_is_deleted_first(two_models: DownloadManager) -> None:
    two_models.sync.prune(keep_bytes=350_000)

    assert [model.id for model in two_models.sync.models()] == [SMALL]
    assert Path(two_models.catalog.find(SMALL).paths[0]).exists()


def test_models_that_share_files_are_pruned_for_their_size(manager: DownloadManager, hub: FaultyHub) -> None:
    """Two are hard links of one another, two have the same file, and all share nothing with the newest."""
    content = small_gguf("m-Q4_K_M.gguf", 500_000)
    files = {"m-Q4_K_M.gguf": content}
    for repo_id in ("demo/one-GGUF", "demo/two-GGUF"):
        hub.add_repository(make_repository(repo_id, files, revisions={"v1": make_files(files)}))
        manager.sync.download(repo_id, "Q4_K_M")
    manager.sync.download("demo/two-GGUF", "Q4_K_M", revision="v1")
    manager.sync.path("demo/two-GGUF@v1:Q4_K_M")
    manager.sync.download(REPO, "Q4_K_M")
    manager.sync.path(SMALL)
    allocated = Path(manager.catalog.find(SMALL).paths[0]).stat().st_blocks * 512

    plan = manager.sync.prune(keep_bytes=allocated)

    assert len(plan.models) == 3
    assert (plan.freed_bytes >= 500_000, plan.kept_bytes, plan.missing_bytes) == (True, allocated, 0)
    assert [model.id for model in manager.sync.models()] == [SMALL]


def test_a_model_whose_file_a_kept_one_shares_is_not_pruned_for_its_size(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    hub.add_repository(make_repository("demo/one-GGUF", {"m-Q4_K_M.gguf": 500_000}))
    path = manager.sync.download("demo/one-GGUF", "Q4_K_M")
    elsewhere = manager.config.models_directory.parent / "elsewhere"
    elsewhere.mkdir()
    os.link(path, elsewhere / "x-Q4_K_M.gguf")
    manager.sync.import_folder(elsewhere)

    plan = manager.sync.prune(keep_bytes=0)

    assert (plan.models, plan.kept_bytes >= 500_000) == ((), True)


def test_requesting_a_path_counts_as_a_use(two_models: DownloadManager) -> None:
    uses = two_models.catalog.uses()

    assert set(uses) == {SMALL}
    assert time.time() - uses[SMALL] < 60


def test_the_last_use_survives_registering_again_and_is_deleted_with_the_model(two_models: DownloadManager) -> None:
    two_models.catalog.register(two_models.catalog.find(SMALL))
    assert SMALL in two_models.catalog.uses()

    two_models.sync.forget(SMALL)

    assert two_models.catalog.uses() == {}


def test_the_verb_asks_for_confirmation_and_no_deletes_nothing(two_models: DownloadManager) -> None:
    refusing, silent = Asked(answer=False), Asked(answer=None)

    say(two_models, "prune --keep 350kB", refusing)
    say(two_models, "prune --keep 350kB", silent)
    say(two_models, "prune --keep 350kB --dry-run", Asked(answer=True))

    assert len(refusing.questions) == 1
    assert f"{REPO}:Q8_0" in refusing.questions[0]
    assert len(two_models.sync.models()) == 2


def test_the_verb_deletes_after_a_yes(two_models: DownloadManager) -> None:
    say(two_models, "prune --keep 350kB", Asked(answer=True))

    assert [model.id for model in two_models.sync.models()] == [SMALL]


def test_the_verb_requires_a_valid_limit(manager: DownloadManager) -> None:
    with pytest.raises(GrammarError):
        say(manager, "prune")
    with pytest.raises(GrammarError):
        say(manager, "prune --unused soon")


# The panel ------------------------------------------------------------------------------------------------------------


def test_the_panel_in_a_deleted_folder_refuses_an_export_in_one_sentence(
    manager: DownloadManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.sync.download(REPO, "Q4_K_M")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    with pytest.raises(RequestError) as refusal:
        act(manager.sync, Act(cid="1", action="export", id=SMALL), lambda _: None)

    assert is_sentence(str(refusal.value))


def test_the_panel_exports_a_model_after_a_question(
    manager: DownloadManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = manager.sync.download(REPO, "Q4_K_M")
    said: list[str] = []

    asked = act(manager.sync, Act(cid="1", action="export", id=SMALL), said.append)
    assert isinstance(asked, PanelAnswer)
    assert asked.confirm is not None
    assert not (tmp_path / "gguf-bundle").exists()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = act(manager.sync, Act(cid="2", action=asked.confirm.id, id=SMALL), said.append)

    assert isinstance(done, PanelAnswer)
    assert done.text.startswith(f"Exported {SMALL}, 300.0 kB")
    [written] = (tmp_path / "gguf-bundle").rglob(path.name)
    assert written.read_bytes() == path.read_bytes()
