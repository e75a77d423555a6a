"""Completion after `%gguf`."""

from types import SimpleNamespace

import pytest

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.notebook import verbs
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verb import complete, split_words, words_before
from tests.support.snapshots import download, snapshot

SNAPSHOT = snapshot(
    download("owner/active:Q4_K_M", DownloadStatus.DOWNLOADING),
    download("owner/first:Q8_0", position=1),
    download("other/paused:Q8_0", DownloadStatus.PAUSED, position=2),
    recent_failures=(download("owner/failed:Q6_K", DownloadStatus.FAILED),),
)
SEEN = (DownloadId("seen/repo"), DownloadId("seen/repo", "Q4_K_M"), DownloadId("seen/repo", "Q8_0"))


def session_with(*models, snapshot=SNAPSHOT, seen=()):
    manager = SimpleNamespace(snapshot=snapshot, catalog=SimpleNamespace(models=lambda: [*models]))
    return Session(lambda: manager, known_manager=manager, seen=dict.fromkeys(seen))


KNOWN = session_with(SimpleNamespace(id=DownloadId("done/model", "Q5_K_M")), seen=SEEN)

assert verbs.VERBS  # imported, all verbs are known


@pytest.mark.parametrize(
    ("line", "fragment", "offered"),
    [
        ("%gguf st", "st", ["status"]),
        ("%gguf history -", "-", ["--clear"]),
        ("  %gguf pa", "pa", ["panel", "pause", "partials", "path"]),
        ("p = %gguf pat", "pat", ["path"]),
        ("p: str = %gguf pat", "pat", ["path"]),
        ('paths["a b"] = %gguf pat', "pat", ["path"]),
        ("paths[f(1)] = %gguf pat", "pat", ["path"]),
        ("self.p = %gguf pat", "pat", ["path"]),
        ("%gguf queue --f", "--f", ["--force"]),
        ("%gguf queue --force --f", "--f", []),
        ("%gguf pause --", "--", ["--all"]),
        ("%gguf pause ", "", ["--all", "owner/active:Q4_K_M", "owner/first:Q8_0", "other/paused:Q8_0"]),
        ("%gguf resume ", "", ["--all", "other/paused:Q8_0"]),
        ("%gguf search x --task im", "im", ["image-text-to-text"]),
        ("%gguf search x --licence ap", "ap", ["apache-2.0"]),
        ("gguf st", "st", ["status"]),
        ("gguf queue --f", "--f", ["--force"]),
        ("%gguf queue a/b --with ", "", ["mmproj", "draft"]),
        ("%gguf search x --sort l", "l", ["likes"]),
        ("%gguf search x --sort=l", "--sort=l", ["--sort=likes"]),
        ("%gguf queue a/b --with mmproj --w", "--w", ["--with"]),
        ("%gguf queue --force=", "--force=", []),
        ("%gguf cancel ", "", ["--all", "owner/active:Q4_K_M", "owner/first:Q8_0", "other/paused:Q8_0"]),
        ("%gguf cancel owner/f", "owner/f", ["owner/first:Q8_0"]),
        ("%gguf cancel fir", "fir", ["owner/first:Q8_0"]),
        ("%gguf cancel --discard owner/f", "owner/f", ["owner/first:Q8_0"]),
        ("%gguf remove ", "", ["owner/first:Q8_0", "other/paused:Q8_0"]),
        ("%gguf retry o", "o", ["owner/failed:Q6_K"]),
        ("%gguf clear-failed ", "", ["owner/failed:Q6_K"]),
        ("%gguf move owner/first:Q8_0 ", "", ["top", "up", "down", "last"]),
        ("%gguf queue seen", "seen", ["seen/repo"]),
        ("%gguf queue seen/repo:", "seen/repo:", ["seen/repo:Q4_K_M", "seen/repo:Q8_0"]),
        ("%gguf queue seen/repo:q8", "seen/repo:q8", ["seen/repo:Q8_0"]),
        ("%gguf plan don", "don", ["done/model"]),
        ("%gguf path ", "", ["--preset", "done/model:Q5_K_M"]),
        ("%gguf export don", "don", ["done/model:Q5_K_M"]),
        ("%gguf export done/model:Q5_K_M don", "don", ["done/model:Q5_K_M"]),
        ("%gguf help mod", "mod", ["models"]),
        ("%gguf bandwidth ", "", ["off"]),
        ("%gguf nonsense ", "", []),
        ("%gguf status ", "", []),
    ],
)
def test_completion_offers_matching_words(line, fragment, offered):
    words = words_before(line, has_automagic=True)

    assert words is not None
    assert (words[-1], complete(words, KNOWN)) == (fragment, offered)


def test_an_offered_id_with_a_space_or_a_quotation_mark_is_one_word():
    ids = [DownloadId("a/b", "my model-Q8_0"), DownloadId("a/b", "it's-Q8_0")]

    offered = complete(["export", "a/"], session_with(*(SimpleNamespace(id=id_) for id_ in ids)))

    assert [split_words(text) for text in offered] == [[str(id_)] for id_ in ids]


@pytest.mark.parametrize(
    "line",
    ["print(%gguf", "print('a = %gguf st", "a == %gguf st", "x = 1", "gguf = st", "gguf in st", "gguf . st", "gguf x"],
)
def test_other_lines_are_completed_by_python(line):
    assert words_before(line, has_automagic=True) is None


@pytest.mark.parametrize("line", ["{}", "a{}", "%gguf{}x\ny", "gguf {}\nx\n", "a ={}", "[{}", "a, {}%", "[a]{}%"])
def test_a_long_run_of_spaces_is_read_in_a_moment(line):
    # With steps for each pair of spaces, it would take minutes.
    assert words_before(line.format(" " * 100_000), has_automagic=True) is None


def test_without_automagic_a_line_needs_the_percent_sign():
    assert words_before("gguf st") is None


def test_without_a_queue_verbs_and_repositories_are_offered():
    known = Session(lambda: pytest.fail("a manager was created"), seen=dict.fromkeys(SEEN))

    assert complete(["cancel", ""], known) == ["--all"]
    assert complete(["queue", "s"], known) == ["seen/repo"]


@pytest.mark.parametrize(
    ("line", "has_folders"),
    [
        ("%gguf import ", True),
        ("%gguf import mo", True),
        ("%gguf config models_directory ", True),
        ("%gguf config max_concurrent ", False),
        ("%gguf import models ", False),
        ("%gguf move ", False),
    ],
)
def test_folders_are_offered_for_a_folder_argument(line, has_folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()

    assert ("models/" in complete(words_before(line), session_with())) is has_folders
