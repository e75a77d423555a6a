"""How a user can name a download."""

import pytest

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.references import find_download, find_repository
from gglib_nb.errors import InvalidRepoIdError, NotInQueueError
from tests.support.snapshots import download, snapshot

ACTIVE = download("bart/Qwen3-8B-GGUF:Q4_K_M", DownloadStatus.DOWNLOADING)
FIRST = download("bart/Qwen3-8B-GGUF:Q8_0", position=1)
SECOND = download("unsloth/gemma-3-GGUF:UD-Q4_K_XL", position=2)
FAILED = download("bart/Qwen3-8B-GGUF:Q6_K", DownloadStatus.FAILED)
DONE = download("bart/Phi-4-GGUF:Q4_K_M", DownloadStatus.COMPLETED)
SNAPSHOT = snapshot(ACTIVE, FIRST, SECOND, recent_failures=(FAILED,), recent_completed=(DONE,))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bart/Qwen3-8B-GGUF:Q8_0", FIRST),
        ("bart/qwen3-8b-gguf:q8_0", FIRST),
        ("#1", FIRST),
        ("2", SECOND),
        ("unsloth", SECOND),
        (":q8_0", FIRST),
        ("gemma", SECOND),
        ("Q6_K", FAILED),
        ("phi", DONE),
        ("8B-GGUF:Q4", ACTIVE),
    ],
)
def test_a_download_is_found(text, found):
    assert find_download(text, SNAPSHOT) == found.id


@pytest.mark.parametrize("text", ["qwen3", "#1", "1"])
def test_verbs_for_failures_search_failures_first(text):
    assert find_download(text, SNAPSHOT, "recent_failures") == FAILED.id


def test_a_number_never_matches_part_of_an_id():
    with pytest.raises(NotInQueueError):
        find_download("3", SNAPSHOT, "recent_failures")


@pytest.mark.parametrize("text", ["", " ", "/", ":", "-", "."])
def test_a_text_without_a_word_matches_nothing(text):
    with pytest.raises(NotInQueueError, match="No download matches"):
        find_download(text, snapshot(FIRST))


def test_an_ambiguous_part_is_refused_with_its_matches():
    with pytest.raises(NotInQueueError, match="bart/Qwen3-8B-GGUF:Q4_K_M, bart/Qwen3-8B-GGUF:Q8_0"):
        find_download("bart", SNAPSHOT)


def test_a_near_miss_suggests_a_download():
    with pytest.raises(NotInQueueError, match=r"Did you mean unsloth/gemma-3-GGUF:UD-Q4_K_XL\?"):
        find_download("unslot/gema-3-GGUF:UD-Q4_K_XL", SNAPSHOT)


def test_an_invalid_position_reports_how_many_wait():
    with pytest.raises(NotInQueueError, match=r"no row 3\. 2 waiting"):
        find_download("#3", SNAPSHOT)


def test_a_number_in_an_empty_list_says_that_it_is_empty():
    with pytest.raises(NotInQueueError, match=r"no row 1\. Nothing has failed\. %gguf status"):
        find_download("#1", snapshot(), "recent_failures")
    with pytest.raises(NotInQueueError, match=r"no row 1\. Nothing is waiting\."):
        find_download("#1", snapshot())


ROWS = (DownloadId("a/b"), DownloadId("c/d", "Q8_0"))


def test_a_number_selects_a_row_of_the_last_table():
    assert find_repository("2", ROWS) == DownloadId("c/d", "Q8_0")


def test_anything_else_is_an_id_or_a_pasted_address():
    assert find_repository("https://huggingface.co/e/f/tree/v1", ROWS) == DownloadId("e/f", None, "v1")


@pytest.mark.parametrize(("rows", "says"), [(ROWS, "has 2"), ((), "No repositories are listed")])
def test_a_missing_row_is_refused(rows, says):
    with pytest.raises(InvalidRepoIdError, match=says):
        find_repository("9", rows)
