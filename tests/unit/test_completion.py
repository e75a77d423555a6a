"""What Tab offers after `%gguf`."""

import pytest

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.references import DownloadId
from gglib_nb.notebook.completion import Known, complete, takes_folder
from tests.support.snapshots import download, snapshot

SNAPSHOT = snapshot(
    download("owner/active:Q4_K_M", DownloadStatus.DOWNLOADING),
    download("owner/first:Q8_0", position=1),
    download("other/paused:Q8_0", DownloadStatus.PAUSED, position=2),
    recent_failures=(download("owner/failed:Q6_K", DownloadStatus.FAILED),),
)
SEEN = (DownloadId("seen/repo"), DownloadId("seen/repo", "Q4_K_M"), DownloadId("seen/repo", "Q8_0"))
KNOWN = Known(SNAPSHOT, SEEN, (DownloadId("done/model", "Q5_K_M"),))


@pytest.mark.parametrize(
    ("line", "fragment", "offered"),
    [
        ("%gguf st", "st", ["status"]),
        ("%gguf history -", "-", ["--clear"]),
        ("  %gguf pa", "pa", ["panel", "pause", "path", "partials"]),
        ("p = %gguf pat", "pat", ["path"]),
        ("%gguf queue --f", "--f", ["--force"]),
        ("%gguf queue --force --f", "--f", []),
        ("%gguf queue a/b --with ", "", ["mmproj", "draft"]),
        ("%gguf search x --sort l", "l", ["likes"]),
        ("%gguf cancel ", "", ["--all", "owner/active:Q4_K_M", "owner/first:Q8_0", "other/paused:Q8_0"]),
        ("%gguf cancel owner/f", "owner/f", ["owner/first:Q8_0"]),
        ("%gguf cancel fir", "fir", ["owner/first:Q8_0"]),
        ("%gguf cancel --discard owner/f", "owner/f", ["owner/first:Q8_0"]),
        ("%gguf remove ", "", ["owner/first:Q8_0", "other/paused:Q8_0"]),
        ("%gguf resume ", "", ["other/paused:Q8_0"]),
        ("%gguf retry o", "o", ["owner/failed:Q6_K"]),
        ("%gguf clear-failed ", "", ["owner/failed:Q6_K"]),
        ("%gguf move owner/first:Q8_0 ", "", ["top", "up", "down", "last"]),
        ("%gguf queue seen", "seen", ["seen/repo"]),
        ("%gguf queue seen/repo:", "seen/repo:", ["seen/repo:Q4_K_M", "seen/repo:Q8_0"]),
        ("%gguf queue seen/repo:q8", "seen/repo:q8", ["seen/repo:Q8_0"]),
        ("%gguf plan don", "don", ["done/model"]),
        ("%gguf path ", "", ["done/model:Q5_K_M"]),
        ("%gguf help mod", "mod", ["models"]),
        ("%gguf bandwidth ", "", ["off"]),
        ("%gguf nonsense ", "", []),
        ("%gguf status ", "", []),
        ("print(%gguf", "", []),
        ("x = 1", "", []),
    ],
)
def test_tab_offers_what_can_stand_there(line, fragment, offered):
    assert complete(line, KNOWN) == (fragment, offered)


def test_without_a_queue_verbs_and_repositories_are_offered():
    known = Known(seen=SEEN)

    assert complete("%gguf cancel ", known) == ("", ["--all"])
    assert complete("%gguf queue s", known) == ("s", ["seen/repo"])


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("%gguf import ", True),
        ("%gguf import ~/mo", True),
        ("%gguf config models_directory ", True),
        ("%gguf config max_concurrent ", False),
        ("%gguf imp", False),
        ("%gguf import models ", False),
        ("%gguf move ", False),
        ("import ", False),
    ],
)
def test_folders_are_offered_where_one_is_named(line, is_one):
    assert takes_folder(line) is is_one
