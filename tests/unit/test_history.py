"""The history of ended downloads: which, how many, and with which text."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gglib_nb.catalog.database import Database
from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.stored import PastDownload, first_sentence, remembered
from gglib_nb.errors import IntegrityError, NetworkError
from tests.support.snapshots import NOW_S, completed, download

CATALOGS = Path(__file__).parent / "catalogs"
ONE = PastDownload(DownloadId("owner/a", "Q4_K_M"), DownloadStatus.COMPLETED, 4_000, 20.5, 1000.25, 1200.75, ran_s=90.5)
FAILED = PastDownload(
    DownloadId("owner/b", "Q8_0", "v1"), DownloadStatus.FAILED, None, None, 900.0, 950.0, error="The line was cut."
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "gglib_nb.sqlite3"


@pytest.fixture
def catalog(path: Path) -> Catalog:
    return Catalog(Database(path))


def test_the_history_is_read_back_newest_first(catalog: Catalog, path: Path) -> None:
    catalog.remember([FAILED])
    catalog.remember([ONE])

    assert Catalog(Database(path)).history() == [ONE, FAILED]


def test_only_the_newest_50_are_remembered(catalog: Catalog) -> None:
    catalog.remember(replace(ONE, ended_at_s=2000.0 + number) for number in range(30))

    catalog.remember(replace(ONE, ended_at_s=3000.0 + number) for number in range(30))

    kept = catalog.history()
    assert (len(kept), kept[0].ended_at_s, kept[-1].ended_at_s) == (50, 3029.0, 2010.0)


def test_a_repeated_entry_is_stored_once_and_another_end_of_the_same_download_separately(catalog: Catalog) -> None:
    catalog.remember([ONE, ONE])
    catalog.remember([ONE, replace(ONE, ended_at_s=5000.0)])

    assert [one.ended_at_s for one in catalog.history()] == [5000.0, ONE.ended_at_s]


def test_clearing_deletes_everything_and_returns_the_count(catalog: Catalog) -> None:
    catalog.remember([ONE, FAILED])

    assert catalog.clear_history() == 2
    assert catalog.history() == []


def test_reading_the_history_creates_no_database(catalog: Catalog, path: Path) -> None:
    assert catalog.history() == []
    assert not path.exists()


def test_a_database_of_the_previous_version_is_upgraded(tmp_path: Path) -> None:
    path = Path(shutil.copy(CATALOGS / "0004-hosts.sqlite3", tmp_path / "gglib_nb.sqlite3"))
    catalog = Catalog(Database(path))

    catalog.remember([ONE])

    assert catalog.history() == [ONE]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM model").fetchone() == (1,)


def test_a_database_with_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    past = Catalog(Database(Path(shutil.copy(CATALOGS / "0005-history.sqlite3", tmp_path / "db")))).history()

    assert [(str(one.id), one.outcome.value, one.error) for one in past] == [
        ("owner/kept:Q4_K_M", "completed", ""),
        ("owner/past@v1:Q8_0", "failed", "The line was cut."),
    ]


def test_a_completed_downloads_size_mean_rate_and_times_are_stored() -> None:
    past = remembered(completed("owner/a:Q4_K_M", total_bytes=9_000, seconds=90.0))

    assert past == PastDownload(
        DownloadId("owner/a", "Q4_K_M"), DownloadStatus.COMPLETED, 9_000, 100.0, NOW_S, NOW_S + 90
    )
    assert past.took_s == 90.0


def test_a_download_removed_before_it_ran_is_not_stored() -> None:
    waiting = download("owner/a:Q4_K_M", "cancelled", ended_at_s=NOW_S)

    assert remembered(waiting) is None
    assert remembered(replace(waiting, started_at_s=NOW_S - 1)) is not None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (NetworkError("The line was cut. `retry` continues."), "The line was cut."),
        (IntegrityError("model.v2.gguf is wrong (aa, not bb)! Fetch it anew.", "aa", "bb"), "model.v2.gguf is wrong (aa, not bb)!"),
        (NetworkError("no stop at its end"), "no stop at its end"),
        (NetworkError("It said:\x1b[31m\nno. More."), "It said: [31m no."),
        (NetworkError("GET https://x/f?X-Amz-Signature=abc123&a=1 failed with hf_abcdefghij. Try."),
         "GET https://x/f?…&a=1 failed with …."),
    ],
)  # fmt: skip
def test_an_error_is_one_sentence_on_one_line_without_secrets(error: Exception, sentence: str) -> None:
    assert first_sentence(str(error)) == sentence
