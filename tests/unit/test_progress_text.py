"""Progress during a wait, on a terminal and in a log."""

import io
import os
from unittest import mock

import pytest
from msgspec.structs import replace

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.units import DailyHours
from gglib_nb.errors import NetworkError
from gglib_nb.notebook.progress import TextQueue
from gglib_nb.notebook.render import download_bundle
from tests.support.snapshots import GB, download, snapshot

ID = DownloadId.parse("owner/model:Q4_K_M")
DONE = download(status=DownloadStatus.COMPLETED, downloaded_bytes=4 * GB, paths=("/m/model.gguf",), is_verified=True)
FAILED = download(status=DownloadStatus.FAILED, error=NetworkError("The line was cut."), can_retry=True)


def at(percent):
    return snapshot(download(status=DownloadStatus.DOWNLOADING, downloaded_bytes=-(-4 * GB * percent // 100)))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def written(snapshots, *, awaited=None, is_terminal=False, size=(80, 24)):
    stream = Terminal() if is_terminal else io.StringIO()
    progress = TextQueue(stream, awaited)
    with mock.patch.dict(os.environ, COLUMNS=str(size[0]), LINES=str(size[1])):
        for one in snapshots:
            progress.show(one)
        progress.close()
    return stream.getvalue()


def test_an_awaited_download_that_waits_in_the_queue_shows_its_position():
    shown = download_bundle(download(position=3), "")

    assert all("It waits at position 3." in text for text in shown.values())


def test_a_download_of_unknown_size_starts_without_a_size_in_a_log():
    item = replace(download(status=DownloadStatus.DOWNLOADING), total_bytes=None)

    assert written([snapshot(item)]) == "owner/model:Q4_K_M started\n"


def test_a_log_gets_a_line_at_every_quarter_and_at_both_ends():
    snapshots = [at(0), at(10), at(26), at(27), at(51), at(80), snapshot(recent_completed=(DONE,))]

    assert written(snapshots).splitlines() == [
        "owner/model:Q4_K_M started, 4.0 GB",
        "owner/model:Q4_K_M 26 %  1.0 GB of 4.0 GB",
        "owner/model:Q4_K_M 51 %  2.0 GB of 4.0 GB",
        "owner/model:Q4_K_M 80 %  3.2 GB of 4.0 GB",
        "owner/model:Q4_K_M finished: 4.0 GB, SHA-256 verified. /m/model.gguf",
    ]


def test_a_logged_failure_shows_the_command_to_type():
    text = written([at(0), snapshot(recent_failures=(FAILED,))])

    last = text.splitlines()[-1]
    assert "The line was cut." in last
    assert last.endswith("%gguf retry owner/model:Q4_K_M")


def test_downloads_that_ended_before_the_wait_are_not_reported():
    assert written([snapshot(recent_completed=(DONE,))]) == ""


def test_the_awaited_download_is_reported_even_if_it_has_already_ended():
    assert "finished" in written([snapshot(recent_completed=(DONE,))], awaited=ID)


def test_a_retried_download_is_reported_from_its_start():
    snapshots = [at(60), snapshot(recent_failures=(FAILED,)), at(60), snapshot(recent_completed=(DONE,))]

    words = [line.split()[1] for line in written(snapshots).splitlines()]

    assert words == ["60", "failed:", "60", "finished:"]


def test_a_terminal_is_redrawn_in_place():
    text = written([at(10), at(20)], is_terminal=True)

    first, second, rest = text.split("\x1b[3F\x1b[J")
    assert "10 %" in first
    assert "20 %" in second
    assert rest == ""


def test_a_terminal_says_until_when_downloads_wait():
    hours = DailyHours.parse("22:00-7:00")
    waiting = replace(snapshot(download(position=1)), download_hours=hours, is_outside_hours=True)

    assert "waiting until 22:00" in written([waiting], is_terminal=True)


def test_an_unchanged_terminal_is_not_written_to():
    assert written([at(10), at(10)], is_terminal=True).count("10 %") == 1


def test_ended_downloads_stay_on_the_terminal():
    text = written([at(10), snapshot(recent_completed=(DONE,))], is_terminal=True)

    assert text.endswith("owner/model:Q4_K_M finished: 4.0 GB, SHA-256 verified. /m/model.gguf\n")


def test_progress_bars_never_scroll_a_short_terminal():
    items = [download(f"o/m{n}:Q8_0", DownloadStatus.DOWNLOADING) for n in range(9)]

    assert written([snapshot(*items)], is_terminal=True, size=(80, 5)).count("\n") == 4


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_stream_that_cannot_encode_our_characters_gets_substitutes(is_terminal):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    vars(stream)["isatty"] = lambda: is_terminal
    progress = TextQueue(stream)

    progress.show(at(30))

    assert b"owner/model:Q4_K_M" in raw.getvalue()
