"""`%gguf partials`: what a text matches, what is deleted, and when confirmation is required."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gglib_nb import DownloadManager, DownloadManagerConfig
from gglib_nb.errors import NotInQueueError
from gglib_nb.notebook.session import Screen, Session
from gglib_nb.notebook.verb import GrammarError
from gglib_nb.notebook.verbs import parse
from tests.support.faulty_hub import FaultyHub
from tests.support.partials import write_journal

NAMES = ("one/model/a-Q4_K_M.gguf", "one/model/a-Q8_0.gguf", "two/other/b-Q4_K_M.gguf")


class Asked(Screen):
    """A terminal whose user gives one answer; it records the question."""

    can_ask = True

    def __init__(self, says_yes: bool) -> None:
        self.says_yes = says_yes
        self.question = ""

    def ask(self, question: str) -> bool:
        self.question = question
        return self.says_yes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A models folder with three unfinished downloads; its own path has the words of the tests in it."""
    folder = tmp_path / "models" / "model b-Q4"
    for name in NAMES:
        part = folder / f"{name}.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"begun")
        write_journal(folder / name)
    return folder


@pytest.fixture
def ask(hub: FaultyHub, folder: Path, tmp_path: Path) -> Callable[..., str]:
    config = DownloadManagerConfig(folder, state_directory=tmp_path / "state", endpoint=hub.url)
    with_manager: list[Session] = []

    def ask(line: str, screen: Screen | None = None) -> str:
        if not with_manager:
            with_manager.append(Session(lambda: manager))
        session = with_manager[0] if screen is None else Session(lambda: manager, screen)
        return parse(f"partials {line}").run(session).text

    manager = DownloadManager(config)
    yield ask
    manager.close()


def left(folder: Path) -> list[str]:
    return [name for name in NAMES if (folder / f"{name}.part").exists()]


def test_a_text_that_matches_one_partial_deletes_it(ask: Callable[..., str], folder: Path) -> None:
    ask("--discard q8_0")

    assert left(folder) == [NAMES[0], NAMES[2]]


@pytest.mark.parametrize("text", ["models", "'model b'", "/tmp", "state"])
def test_the_path_of_the_models_folder_matches_nothing(ask: Callable[..., str], folder: Path, text: str) -> None:
    ask(f"--discard {text}")

    assert left(folder) == list(NAMES)


@pytest.mark.parametrize("text", ["''", "/", ".", "- --yes"])
def test_a_text_without_a_word_deletes_nothing(ask: Callable[..., str], folder: Path, text: str) -> None:
    for name in NAMES[1:]:
        (folder / f"{name}.part").unlink()

    with pytest.raises(GrammarError, match="Name what to delete"):
        ask(f"--discard {text}")

    assert left(folder) == [NAMES[0]]


def test_a_text_that_matches_several_deletes_nothing_without_a_user(ask: Callable[..., str], folder: Path) -> None:
    said = ask("--discard Q4_K_M")

    assert left(folder) == list(NAMES)
    assert "%gguf partials --discard Q4_K_M --yes" in said


@pytest.mark.parametrize(("says_yes", "kept"), [(True, [NAMES[1]]), (False, list(NAMES))])
def test_the_user_confirms_before_several_are_deleted(
    ask: Callable[..., str], folder: Path, says_yes: bool, kept: list[str]
) -> None:
    screen = Asked(says_yes)

    ask("--discard Q4_K_M", screen)

    assert all(name in screen.question for name in (NAMES[0], NAMES[2]))
    assert left(folder) == kept


@pytest.mark.parametrize("line", ["--discard --all", "--discard model --yes --discard"])
def test_with_all_or_yes_no_confirmation_is_requested(ask: Callable[..., str], folder: Path, line: str) -> None:
    ask(line)

    assert left(folder) == ([] if "--all" in line else [NAMES[2]])


@pytest.mark.parametrize("line", ["--all", "--yes", "two --yes", "--queue --discard two"])
def test_an_option_of_a_deletion_is_refused_without_it(ask: Callable[..., str], folder: Path, line: str) -> None:
    with pytest.raises(GrammarError, match="Write either --queue or --discard"):
        ask(line)

    assert left(folder) == list(NAMES)


def test_a_row_number_selects_one(ask: Callable[..., str], folder: Path) -> None:
    ask("two")
    ask("--discard #1")

    assert left(folder) == [NAMES[0], NAMES[1]]
    with pytest.raises(NotInQueueError):
        ask("--discard #9")


def test_the_suggested_command_can_be_pasted(ask: Callable[..., str], folder: Path) -> None:
    for name in ("three/c/my model-Q4_K_M.gguf", "three/c/my model-Q8_0.gguf"):
        part = folder / f"{name}.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"begun")
        write_journal(folder / name)
    said = ask("--discard 'my model'")

    ask(said.partition("%gguf partials ")[2])

    assert not list((folder / "three").rglob("*.part"))


def test_a_text_without_a_match_does_not_say_that_there_are_no_unfinished_downloads(ask: Callable[..., str]) -> None:
    for option in ("", "--queue", "--discard"):
        assert ask(f"three {option}") == "No unfinished download matches 'three'."


def test_the_list_shows_the_numbers_by_which_its_rows_can_be_named(ask: Callable[..., str]) -> None:
    assert [line.split()[0] for line in ask("").splitlines()[1:4]] == ["1", "2", "3"]
