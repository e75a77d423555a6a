"""The progress text of a script's terminal and log, and how often a log gets it."""

import re
from types import SimpleNamespace

import pytest

from gglib_nb.manager.progress import LoggedDownload, name_of, parts_of, parts_of_file
from tests.support.snapshots import completed, download, shard

GB = 1_000_000_000
RUNS = {"bytes_per_second": 12.3e6, "eta_seconds": 200.0}


def line(item):
    """As logged."""
    return f"{name_of(item)} {', '.join(parts_of(item))}"


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (
            download("a/b:Q4", "downloading", total_bytes=4 * GB, downloaded_bytes=GB, **RUNS),
            "b:Q4 25 %, 1.0 GB of 4.0 GB, 12.3 MB/s, 3 min 20 s left",
        ),
        (
            download("a/b:Q4", "downloading", total_bytes=4 * GB, downloaded_bytes=GB, notice="stalled for 9 s"),
            "b:Q4 25 %, 1.0 GB of 4.0 GB, stalled for 9 s",
        ),
        (download("a/b:Q4", total_bytes=4 * GB, position=2), "b:Q4 0 %, 4.0 GB, queued, number 2"),
        (download("a/b:Q4", "paused", total_bytes=4 * GB, position=1), "b:Q4 0 %, 4.0 GB, paused, number 1"),
        (download("a/b:Q4", "failed", total_bytes=4 * GB, downloaded_bytes=GB), "b:Q4 25 %, 1.0 GB of 4.0 GB, failed"),
        (completed("a/b:Q4", total_bytes=4 * GB, seconds=90), "b:Q4 100 %, 4.0 GB, in 1 min 30 s"),
        (completed("a/b:Q4", total_bytes=4 * GB, was_present=True), "b:Q4 100 %, 4.0 GB, already downloaded"),
    ],
)
def test_a_download_is_described_in_one_line(item, said):
    assert line(item) == said


def test_no_percentage_is_shown_for_an_unknown_size():
    assert parts_of_file(shard(size_bytes=None, downloaded_bytes=GB)) == ["1.0 GB"]


def test_untrusted_text_cannot_control_a_terminal():
    assert "\x1b" not in line(download("a/b:Q4", "downloading", notice="\x1b[2J"))
    assert name_of(download("a/b:Q4")) == "b:Q4"


class Minutes:
    """A clock that a test advances, and the lines logged with it."""

    def __init__(self):
        self.now_s = 100.0
        self.lines = []
        LoggedDownload._followed.clear()
        self.stream = SimpleNamespace(write=self.lines.append)

    def view(self):
        return LoggedDownload(self.stream, lambda: self.now_s)


def test_a_log_gets_one_line_a_minute_about_all_awaited_downloads():
    minutes = Minutes()
    first, second = minutes.view(), minutes.view()

    for tick in range(1500):  # two and a half minutes, ten times a second
        first.show(download("a/b:Q4", "downloading", downloaded_bytes=tick))
        second.show(download("a/c:Q4"))
        minutes.now_s += 0.1

    assert len(minutes.lines) == 2
    assert all(re.fullmatch(r"gglib_nb: b:Q4 .*; c:Q4 .*\n", written) for written in minutes.lines)


def test_downloads_shorter_than_a_minute_are_not_logged():
    minutes = Minutes()
    view = minutes.view()

    view.show(download("a/b:Q4", "downloading"))
    minutes.now_s += 59.0
    view.show(completed("a/b:Q4"))
    view.close()

    assert minutes.lines == []


def test_ended_downloads_are_not_logged_again():
    minutes = Minutes()
    ended, running = minutes.view(), minutes.view()
    ended.show(download("a/b:Q4", "downloading"))
    ended.close()

    running.show(download("a/c:Q4", "downloading"))
    minutes.now_s += 60.0
    running.show(download("a/c:Q4", "downloading", downloaded_bytes=1))

    assert [written.split()[1] for written in minutes.lines] == ["c:Q4"]


def test_the_minute_restarts_with_the_next_wait():
    minutes = Minutes()
    first = minutes.view()
    first.show(download("a/b:Q4", "downloading"))
    first.close()
    minutes.now_s += 3600.0

    minutes.view().show(download("a/c:Q4", "downloading"))

    assert minutes.lines == []
