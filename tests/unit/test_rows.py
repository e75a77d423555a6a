"""Rows: what users read about downloads, and the actions of each. The sentences are golden texts."""

from dataclasses import replace

import msgspec
import pytest

from gglib_nb.domain.download import DownloadStatus, ShardStatus
from gglib_nb.errors import NetworkError
from gglib_nb.notebook import rows
from tests.support.snapshots import GB, completed, download, shard, snapshot

MODEL = "owner/model-GGUF:Q4_K_M"


def actions_of(item, pending=1, active=0):
    return [action.id for action in rows.download_row(item, pending, active).actions]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("queued", ["run_now", "pause", "remove"]),
        ("paused", ["run_now", "resume", "remove"]),
        ("downloading", ["pause", "cancel"]),
        ("finalizing", ["cancel"]),
        ("registering", ["cancel"]),
        ("cancelled", ["undo", "discard"]),
    ],
)
def test_a_row_offers_exactly_the_actions_of_its_status(status, expected):
    assert actions_of(download(MODEL, status, downloaded_bytes=GB), active=1) == expected


def test_a_failed_row_offers_retry_only_if_a_retry_can_help():
    lost = NetworkError("The line was cut. Try again.")

    assert actions_of(download(MODEL, "failed", error=lost, can_retry=True)) == ["retry", "dismiss"]
    assert actions_of(download(MODEL, "failed", error=lost, can_retry=False)) == ["dismiss"]


def test_a_waiting_row_can_be_moved_only_if_another_position_exists():
    first = rows.download_row(download(MODEL, position=1), 2, 0)

    assert {action.id: action.is_off for action in first.actions if action.id in ("top", "up", "down")} == {
        "top": True,
        "up": True,
        "down": False,
    }


@pytest.mark.parametrize(
    ("limit", "text"), [(None, ""), (50, "0.00005"), (5_000_000, "5"), (123_456_789, "123.456789")]
)
def test_the_speed_limit_is_a_plain_number_that_is_read_as_the_same_limit(limit, text):
    fields = {field.id: field.value for field in rows.header(snapshot(bandwidth_limit_bytes_per_second=limit)).fields}

    assert fields["bandwidth_limit_bytes_per_second"] == text


def test_only_rate_and_eta_are_live():
    row = rows.download_row(
        download(MODEL, "downloading", downloaded_bytes=GB, bytes_per_second=1e6, eta_seconds=9.0), 0, 1
    )

    assert [(fact.text, fact.is_live) for fact in row.lines] == [
        ("1.0 GB of 4.0 GB", False),
        ("1.0 MB/s", True),
        ("9 s left", True),
    ]


def test_a_row_has_one_bar_per_file_and_counts_the_finished_ones():
    files = (
        shard(1, size_bytes=GB, downloaded_bytes=GB, status=ShardStatus.FINISHED),
        shard(2, size_bytes=GB, downloaded_bytes=0),
    )
    row = rows.download_row(download(MODEL, "downloading", downloaded_bytes=GB, total_bytes=2 * GB, shards=files), 0, 1)

    assert [bar.part for bar in row.bars] == [1.0, 0.0]
    assert (row.part, row.progress, row.is_open) == (0.5, "50 %, 1 of 2 files done", True)


@pytest.mark.parametrize("status", ["queued", "paused", "failed", "cancelled"])
def test_only_files_of_an_active_download_are_called_downloading(status):
    files = (
        shard(1, downloaded_bytes=GB, status=ShardStatus.FINISHED),
        shard(2, downloaded_bytes=GB // 2, status=ShardStatus.DOWNLOADING),
        shard(3, downloaded_bytes=GB, status=ShardStatus.VERIFYING),
    )

    row = rows.download_row(download(MODEL, status, downloaded_bytes=GB, shards=files), 1, 0)

    assert [bar.status for bar in row.bars] == ["finished", "", ""]


def test_a_finished_row_has_its_path_and_the_code_that_loads_it():
    row = rows.download_row(completed(MODEL), 0, 0)

    assert row.path in row.code
    assert [action.id for action in row.actions] == ["verify", "delete"]


def test_an_id_is_only_in_its_current_list():
    found = rows.views(snapshot(download(MODEL, "downloading"), recent_completed=(completed(MODEL),)))

    assert [(view.id, view.rows) for view in found] == [("active", (MODEL,))]


@pytest.mark.parametrize("status", [status.value for status in DownloadStatus])
def test_every_row_can_be_sent_as_plain_json_and_holds_no_control_characters(status):
    hostile = download("owner/\x1b[31mevil:Q4", status, notice="a\x07b", reason="c\x1bd")
    row = rows.download_row(hostile, 1, 1)

    assert msgspec.json.decode(msgspec.json.encode(row))["status"] == status
    assert not any(ord(char) < 32 for char in f"{row.title}{row.tag}{row.note}{row.reason}")


def test_retry_all_queues_downloads_in_the_order_in_which_they_failed():
    failed = [download(f"owner/m{number}:Q8_0", "failed", can_retry=True) for number in range(3)]

    order = rows.retry_order(snapshot(recent_failures=tuple(failed)))

    assert [item.display_name for item in order] == ["m2", "m1", "m0"]


def test_a_download_from_a_mirror_names_it_while_it_runs():
    row = rows.download_row(download(MODEL, "downloading", downloaded_bytes=GB, mirrors=("mirror.example",)), 0, 1)

    assert "from mirror.example" in [fact.text for fact in row.lines]


def test_the_amount_of_a_download_of_unknown_size_has_no_gap():
    item = replace(download(MODEL, "downloading", downloaded_bytes=GB), total_bytes=None)

    assert rows.download_row(item, 0, 1).lines[0].text == "1.0 GB"
