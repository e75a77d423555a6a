"""The queue as plain text and as static HTML."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from gglib_nb.domain.download import DownloadStatus, HostProgress, ShardStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.snapshot import QueueRunSummary, Then
from gglib_nb.errors import GatedRepoError, NetworkError
from gglib_nb.notebook.render import render_html, render_text
from tests.support.snapshots import GB, download, shard, snapshot

DOWNLOADING = download(
    status=DownloadStatus.DOWNLOADING, downloaded_bytes=2 * GB, bytes_per_second=45.3e6, eta_seconds=200.0
)
SHARDED = download(
    "owner/sharded:Q4_K_M",
    status=DownloadStatus.DOWNLOADING,
    downloaded_bytes=3 * GB,
    shards=(
        shard(1, size_bytes=2 * GB, downloaded_bytes=2 * GB, status=ShardStatus.FINISHED),
        shard(2, size_bytes=2 * GB, downloaded_bytes=GB, status=ShardStatus.DOWNLOADING),
    ),
    companions=(shard(3, kind="mmproj", path="mmproj.gguf"),),
)
FAILED = download(
    "owner/failed:Q4_K_M",
    status=DownloadStatus.FAILED,
    error=NetworkError("The line was cut. Retry goes on."),
    can_retry=True,
)
DONE = download(
    "owner/done:Q4_K_M",
    status=DownloadStatus.COMPLETED,
    downloaded_bytes=4 * GB,
    paths=("/models/owner/model/model.gguf",),
    is_verified=True,
    started_at_s=1000.0,
    ended_at_s=1200.0,
)


def test_an_empty_queue_shows_the_first_command():
    assert "%gguf queue owner/repo" in render_text(snapshot())


def test_the_first_line_shows_count_rate_and_eta():
    waiting = download("owner/other:Q8_0")

    text = render_text(snapshot(DOWNLOADING, waiting, bytes_per_second=45.3e6, eta_seconds=3720.0))

    first = text.splitlines()[0]
    assert all(part in first for part in ("1 active", "1 waiting", "45.3 MB/s", "1 h 02 min left"))


def test_an_active_download_has_a_bar_with_amount_rate_and_remaining_time():
    text = render_text(snapshot(DOWNLOADING), width=88)

    bar = "█" * 13 + "░" * 13
    assert text.splitlines()[1:] == [
        "  owner/model:Q4_K_M",
        f"  {bar}  50 %  2.0 GB of 4.0 GB · 45.3 MB/s · 3 min 20 s left",
    ]


def test_a_download_of_several_files_has_a_bar_for_each():
    lines = render_text(snapshot(SHARDED)).splitlines()[3:]

    assert [line.split()[0] for line in lines] == ["1/2", "2/2", "mmproj"]
    assert [line.split()[-1] for line in lines] == ["finished", "downloading", "queued"]


def test_of_fifty_files_active_ones_are_shown_and_the_others_counted():
    shards = tuple(shard(number, status=ShardStatus.FINISHED) for number in range(1, 50))
    moving = shard(50, status=ShardStatus.DOWNLOADING)
    item = download(status=DownloadStatus.DOWNLOADING, shards=(*shards, moving))

    text = render_text(snapshot(item))

    assert [line.split()[0] for line in text.splitlines()[3:]] == ["50/50"]
    assert text.count("49 of 50 files") == 1


def test_a_stall_is_reported_with_a_rate_of_zero():
    item = download(
        status=DownloadStatus.DOWNLOADING, downloaded_bytes=GB, bytes_per_second=0.0, notice="stalled for 12 s"
    )

    lines = render_text(snapshot(item)).splitlines()

    assert lines[2].endswith("1.0 GB of 4.0 GB · 0 B/s")
    assert lines[3] == "    stalled for 12 s"


def test_a_waiting_download_shows_its_position_and_whether_it_is_paused():
    paused = download("owner/second:Q8_0", DownloadStatus.PAUSED, position=2, downloaded_bytes=GB)

    first, second = render_text(snapshot(download(), paused)).splitlines()[2:]

    assert first.split() == ["#1", "owner/model:Q4_K_M", "4.0", "GB"]
    assert second.split()[:4] == ["#2", "owner/second:Q8_0", "25", "%"]
    assert "  paused  " in second


def test_a_paused_download_is_called_paused_however_long_its_folder_and_its_command_are():
    command = Then("cp " + "x" * 80, "waiting")
    paused = download(status=DownloadStatus.PAUSED, position=1, to="/mnt/" + "folder" * 10, then=command)

    *_, line = render_text(snapshot(paused), 80).splitlines()

    assert "  paused  " in line
    assert line.endswith("…")


def test_a_failure_shows_its_number_reason_and_command():
    _, _, head, why, command = render_text(snapshot(recent_failures=(FAILED,))).splitlines()

    assert head.split()[:2] == ["#1", "owner/failed:Q4_K_M"]
    assert why.strip() == "The line was cut. Retry goes on."
    assert command.endswith("%gguf retry owner/failed:Q4_K_M")


def test_a_failure_that_cannot_be_retried_offers_no_retry():
    gated = download(status=DownloadStatus.FAILED, error=GatedRepoError("Accept the terms first."))

    assert "retry" not in render_text(snapshot(recent_failures=(gated,)))


def test_a_finished_download_shows_its_path_and_that_it_was_verified():
    lines = render_text(snapshot(recent_completed=(DONE,))).splitlines()

    assert "SHA-256 verified" in lines[2]
    assert lines[3] == "    /models/owner/model/model.gguf"


def test_the_last_run_is_summarized_when_everything_failed():
    run = QueueRunSummary(0.0, 725.0, 0, 2, 0, 0, 2, 0, (), False)

    last = render_text(snapshot(last_run=run)).splitlines()[-1]

    assert "2 failed" in last
    assert "12 min 05 s" in last


@pytest.mark.parametrize("width", [40, 60, 88, 200])
def test_only_lines_to_be_copied_exceed_the_width(width):
    shown = snapshot(DOWNLOADING, SHARDED, download("owner/" + "long-" * 12 + "name:Q8_0"))

    assert max(map(len, render_text(shown, width).splitlines())) <= width


def test_untrusted_control_characters_cannot_control_the_terminal():
    item = download("owner/model:\x1b[31mQ4\r\n", notice="\x1b]0;title\x07")

    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f]", render_text(snapshot(item))) is None


class _Texts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.texts = set(), []

    @override
    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    @override
    def handle_data(self, data):
        self.texts.append(data)


def parsed(html):
    parser = _Texts()
    parser.feed(html)
    return parser


@given(st.text(max_size=40))
def test_untrusted_html_is_shown_as_text(hostile):
    item = download(f"<script>{hostile}", notice=f"<img src=x onerror=alert(1)>{hostile}")
    failed = download("a/b", DownloadStatus.FAILED, error=NetworkError(f"<b>{hostile}"), can_retry=True)

    page = parsed(render_html(snapshot(item, recent_failures=(failed,), resolving=(f"<i>{hostile}",))))

    assert page.tags <= {"div", "strong", "table", "tbody", "tr", "td", "code", "span", "details", "summary"}
    assert any(text.startswith("<script>") for text in page.texts)


def test_the_html_is_complete_without_styles():
    shown = snapshot(DOWNLOADING, SHARDED, recent_failures=(FAILED,), recent_completed=(DONE,))

    said = " ".join(parsed(render_html(shown, caption="As saved.")).texts)

    for part in ("50 %", "45.3 MB/s", "3 files", "The line was cut.", "/models/owner/model/model.gguf", "As saved."):
        assert part in said


def test_the_same_snapshot_renders_the_same():
    first = snapshot(DOWNLOADING, recent_completed=(DONE,))
    second = snapshot(DOWNLOADING, recent_completed=(DONE,))

    assert (render_text(first), render_html(first)) == (render_text(second), render_html(second))


def test_the_test_values_match_the_domain():
    assert download("a/b@main:Q8_0").id == DownloadId("a/b", "Q8_0", "main")


def test_the_html_shows_files_without_expanding():
    page = render_html(snapshot(SHARDED))

    assert "<details>" not in page
    assert "1/2" in page


def test_a_cluster_download_shows_its_hosts_and_their_progress() -> None:
    one = (HostProgress("gpu-1", 300, 1000),)
    several = (HostProgress("gpu-1", 1000, 1000, is_finished=True), HostProgress("gpu-2", 605, 1000))

    assert "on gpu-1" in " ".join(render_text(snapshot(replace(DOWNLOADING, hosts=one))).split())
    assert "gpu-1 done, gpu-2 60 %" in " ".join(render_text(snapshot(replace(DOWNLOADING, hosts=several))).split())


def test_static_html_sets_no_colour_that_a_host_could_make_unreadable() -> None:
    page = render_html(snapshot(DOWNLOADING, SHARDED, recent_failures=(FAILED,), recent_completed=(DONE,)))

    colours = re.findall(r"(?<![-\w])color:([^;\"]+)", page)
    assert all(colour == "inherit" or colour.startswith("color-mix(") for colour in colours)
    assert "var(" not in page
