"""Tensors already on this machine are copied instead of downloaded; after any fault the bytes are right.

It is long because copying can fail in many ways; all tests use the same related files.
"""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gglib_nb.demo import bytes_content
from gglib_nb.domain.gguf_reuse import ReuseLimits
from gglib_nb.domain.reports import EngineLost, TransferFinished, TransferStopped
from gglib_nb.engine import disk, reuse, transfer
from gglib_nb.engine import file as file_module
from gglib_nb.engine.disk import journal_path, lease_path, part_path
from gglib_nb.engine.journal import Journal
from gglib_nb.engine.pieces import Pieces
from gglib_nb.engine.reuse import TensorCopy
from tests.support.engine import EngineProcess, LocalEngine, planned
from tests.support.faulty_hub import FaultyHub, IgnoreRange, Status, altered_content
from tests.support.gguf_files import related_files as random_files
from tests.support.hub import make_files, make_repository
from tests.support.models import sha256_of
from tests.support.related import (
    Q4_K_M,
    Q4_K_S,
    Q8_0,
    RELATED,
    SMALL,
    SPLIT,
    content_of,
    move_to,
    place,
    related_files,
    related_repository,
    table_of,
)


@pytest.fixture
def hub(make_hub) -> FaultyHub:
    return make_hub([related_repository()])


@pytest.fixture
def engine(hub, tmp_path: Path) -> Iterator[LocalEngine]:
    local = LocalEngine(hub, tmp_path / "models", reuse_limits=SMALL)
    yield local
    local.close()


def right(hub: FaultyHub, path: str) -> str:
    return content_of(hub, path).sha256


def header_bytes(hub: FaultyHub, path: str) -> int:
    return table_of(content_of(hub, path)).header.header_bytes or 0


def fetch(engine: LocalEngine, *paths: str, **options) -> tuple[TransferFinished, int]:
    """Download successfully; returns the end and the bytes sent. Every file is right."""
    attempt = engine.begin(RELATED, *paths, **options)
    end = engine.log.end_of(attempt)
    assert isinstance(end, TransferFinished), end
    for path in paths:
        assert sha256_of(engine.target(RELATED, path)) == right(engine.hub, path)
    return end, engine.log.progress_of(attempt)[-1].received_bytes


# Copied tensors.


def test_a_second_quantization_copies_tensors_of_the_first_and_downloads_the_rest(hub, engine) -> None:
    place(hub, engine.folder, Q4_K_S)
    other, wanted = (table_of(content_of(hub, path)) for path in (Q4_K_S, Q4_K_M))
    shared = {(one.name, one.type) for one in other.tensors} & {(one.name, one.type) for one in wanted.tensors}
    shared_bytes = sum(one.span_bytes for one in wanted.tensors if (one.name, one.type) in shared)

    end, received = fetch(engine, Q4_K_M)

    (file,) = end.files
    size_bytes = content_of(hub, Q4_K_M).size_bytes
    assert file.reused_from == ("Q4_K_S",)
    assert file.reused_bytes + received == size_bytes
    assert shared_bytes * 0.98 <= file.reused_bytes <= shared_bytes < size_bytes


def test_a_longer_chat_template_costs_its_header_and_samples(hub, engine) -> None:
    place(hub, engine.folder, Q4_K_M)
    move_to(hub, chat_template="a longer template " * 1000)

    end, received = fetch(engine, Q4_K_M, replaces=True)

    size_bytes = content_of(hub, Q4_K_M).size_bytes
    assert received <= size_bytes * 0.01 + header_bytes(hub, Q4_K_M)
    assert end.files[0].reused_bytes == size_bytes - received


def test_a_model_split_differently_is_copied_in_both_directions(hub, tmp_path) -> None:
    limits = ReuseLimits(1_000_000, most_sample_share=0.02)  # a shard of 6 MB with as many tensors as one of 6 GB
    engine = LocalEngine(hub, tmp_path / "models", reuse_limits=limits)
    for path in SPLIT:
        place(hub, engine.folder, path)
    _, joined_received = fetch(engine, Q4_K_M)
    for path in SPLIT:
        engine.target(RELATED, path).unlink()
    end, split_received = fetch(engine, *SPLIT)

    size_bytes = content_of(hub, Q4_K_M).size_bytes
    engine.close()
    assert joined_received < size_bytes * 0.02 + header_bytes(hub, Q4_K_M)
    assert split_received < size_bytes * 0.02 + header_bytes(hub, SPLIT[0]) + 3 * 64 * 1024
    assert all(file.reused_from == ("Q4_K_M",) for file in end.files)


def test_shards_of_another_repository_are_donors_for_all_shards(hub, tmp_path) -> None:
    limits = ReuseLimits(1_000_000, most_sample_share=0.02)
    engine = LocalEngine(hub, tmp_path / "models", reuse_limits=limits)
    donors = tuple(str(place(hub, tmp_path / "elsewhere", path).rename(tmp_path / Path(path).name)) for path in SPLIT)

    end, received = fetch(engine, *SPLIT, donors=donors)

    engine.close()
    assert received < content_of(hub, Q4_K_M).size_bytes * 0.02 + header_bytes(hub, SPLIT[0]) + 3 * 64 * 1024
    assert all(file.reused_bytes for file in end.files)


def test_the_minimum_saving_applies_to_all_shards_together(hub, tmp_path) -> None:
    engine = LocalEngine(hub, tmp_path / "models", reuse_limits=ReuseLimits(9_000_000, most_sample_share=0.02))
    place(hub, engine.folder, Q4_K_M)

    end, _ = fetch(engine, *SPLIT)

    engine.close()
    assert max(content_of(hub, path).size_bytes for path in SPLIT) < 9_000_000
    assert all(file.reused_bytes for file in end.files)


def test_several_donors_complement_each_other(hub, engine) -> None:
    for path in SPLIT[:2]:
        place(hub, engine.folder, path)
    place(hub, engine.folder, Q4_K_S)

    end, _ = fetch(engine, Q4_K_M)

    assert set(end.files[0].reused_from) == {"Q4_K_M", "Q4_K_S"}


def test_a_registered_file_elsewhere_is_a_donor_if_it_is_the_same_model(hub, engine, tmp_path) -> None:
    elsewhere = place(hub, tmp_path / "elsewhere", Q4_K_M)
    other_model = tmp_path / "other.gguf"
    hub.add_repository(make_repository("demo/other", related_files(feed_forward=1792)))
    place(hub, tmp_path, Q4_K_M, "demo/other").rename(other_model)

    other_end, other_received = fetch(engine, Q4_K_S, donors=(str(other_model), str(tmp_path / "gone.gguf")))
    end, _ = fetch(engine, Q4_K_M, donors=(str(elsewhere),))

    assert (other_end.files[0].reused_bytes, other_received) == (0, content_of(hub, Q4_K_S).size_bytes)
    assert end.files[0].reused_from[0] == Q4_K_M


@pytest.mark.parametrize("place_of_call", [(Path, "stat"), (reuse, "reading")], ids=["at once", "when it is read"])
def test_a_registered_file_on_a_disk_that_hangs_holds_up_no_download(
    hub, engine, tmp_path, monkeypatch, place_of_call
) -> None:
    elsewhere, answers = place(hub, tmp_path / "elsewhere", Q4_K_M), threading.Event()
    (tmp_path / "hung").mkdir()
    (tmp_path / "hung" / "m.gguf").write_bytes(bytes(1000))
    call = getattr(*place_of_call)

    def hangs(path: Path, *reach: int, **options: bool) -> Any:
        if path.parent.name == "hung":
            answers.wait(60)
        return call(path, *reach, **options)

    monkeypatch.setattr(*place_of_call, hangs)
    monkeypatch.setattr(disk, "_SEARCH_S", 0.2)

    attempt = engine.begin(RELATED, Q4_K_S, donors=(str(elsewhere), str(tmp_path / "hung" / "m.gguf")))
    end = engine.log.end_of(attempt, timeout_s=30)
    answers.set()

    assert isinstance(end, TransferFinished)
    assert end.files[0].reused_from[0] == Q4_K_M


def test_a_donor_on_a_disk_that_hangs_while_it_is_compared_holds_up_no_download(hub, engine, monkeypatch) -> None:
    place(hub, engine.folder, Q4_K_M)
    answers = threading.Event()

    def hangs(*_: Any) -> bytes:
        answers.wait(60)
        return b""

    monkeypatch.setattr(reuse._OpenDonors, "read", hangs)
    monkeypatch.setattr(transfer, "_LONGEST_STEP_S", 0.3)

    end = engine.log.end_of(engine.begin(RELATED, Q4_K_S), timeout_s=30)
    answers.set()

    assert isinstance(end, TransferFinished)
    assert end.files[0].reused_bytes == 0


@pytest.mark.parametrize("call", ["opened", "read_at"])
def test_a_donor_on_a_disk_that_hangs_while_it_is_copied_holds_up_no_download(
    hub, engine, monkeypatch, call: str
) -> None:
    place(hub, engine.folder, Q4_K_M).rename(engine.target(RELATED, "older-Q4_K_M.gguf"))
    answers, copying, work = threading.Event(), threading.Event(), getattr(reuse, call)

    def hangs(*args: Any) -> Any:
        if copying.is_set() and threading.current_thread().name == "gglib-copy":
            answers.wait(60)
        return work(*args)

    def begins(*args: Any) -> TensorCopy:
        copying.set()
        return TensorCopy(*args)

    monkeypatch.setattr(reuse, call, hangs)
    monkeypatch.setattr(file_module, "TensorCopy", begins)
    monkeypatch.setattr(transfer, "_LONGEST_STEP_S", 0.3)

    end = engine.log.end_of(engine.begin(RELATED, Q4_K_M), timeout_s=30)
    has_copied = copying.is_set()
    answers.set()

    assert isinstance(end, TransferFinished)
    assert has_copied
    assert end.files[0].reused_bytes == 0


def test_copied_bytes_count_as_downloaded_but_not_as_speed(hub, engine) -> None:
    place(hub, engine.folder, Q4_K_S)

    attempt = engine.begin(RELATED, Q4_K_M)
    engine.log.end_of(attempt)

    reports = engine.log.progress_of(attempt)
    last = reports[-1]
    assert last.reused_from == ("Q4_K_S",)
    assert last.files[0].downloaded_bytes == last.received_bytes + last.reused_bytes
    assert all(one.received_bytes <= two.received_bytes for one, two in pairwise(reports))


# Savings too small to copy.


def asked_plainly(hub: FaultyHub, path: str) -> bool:
    """Whether the file's start was requested in a long range, and not only to read its header."""
    (last,) = [one[1] for one in hub.ranges(path) if one is not None and one[0] == 0]
    return last is not None and last > 1_000_000


def test_without_a_donor_no_samples_are_requested(hub, engine) -> None:
    place(hub, engine.folder, "related-Q8_0.gguf").unlink()

    fetch(engine, Q4_K_M)

    assert asked_plainly(hub, Q4_K_M)


def test_for_a_small_saving_no_samples_are_requested(hub, tmp_path) -> None:
    engine = LocalEngine(hub, tmp_path / "models")  # with the engine's own limits
    place(hub, engine.folder, Q4_K_S)

    fetch(engine, Q4_K_M)

    engine.close()
    assert asked_plainly(hub, Q4_K_M)


def test_force_copies_nothing_from_local_files(hub, engine) -> None:
    place(hub, engine.folder, Q4_K_S)

    end, received = fetch(engine, Q4_K_M, force=True)

    assert asked_plainly(hub, Q4_K_M)
    assert (end.files[0].reused_bytes, received) == (0, content_of(hub, Q4_K_M).size_bytes)


def test_if_the_first_samples_differ_no_more_are_requested(hub, engine) -> None:
    place(hub, engine.folder, Q4_K_M)
    move_to(hub, training="more")

    end, received = fetch(engine, Q4_K_M, replaces=True)

    short = [one for one in hub.ranges(Q4_K_M) if one is not None and one[0] and (one[1] or 0) - one[0] < 10_000]
    assert 1 <= len(short) <= 8
    assert (end.files[0].reused_bytes, received) == (0, content_of(hub, Q4_K_M).size_bytes)


# Faults.


def test_a_difference_outside_the_samples_costs_a_second_download_and_no_wrong_file(hub, engine) -> None:
    donor = place(hub, engine.folder, Q4_K_M)
    tensor = table_of(content_of(hub, Q4_K_M)).tensors[0]
    size_bytes = content_of(hub, Q4_K_M).size_bytes
    files = related_files() | {Q4_K_M: altered_content(content_of(hub, Q4_K_M), tensor.offset_bytes + 700_001)}
    hub.move_branch(RELATED, "main", make_files(files))

    end, received = fetch(engine, Q4_K_M, replaces=True)

    assert end.files[0].reused_bytes == 0
    assert received == size_bytes  # bytes downloaded before were kept
    assert donor == engine.target(RELATED, Q4_K_M)


def test_after_a_wrong_copy_a_resume_copies_nothing(hub, engine) -> None:
    place(hub, engine.folder, Q4_K_M)
    tensor = table_of(content_of(hub, Q4_K_M)).tensors[0]
    files = related_files() | {Q4_K_M: altered_content(content_of(hub, Q4_K_M), tensor.offset_bytes + 700_001)}
    hub.move_branch(RELATED, "main", make_files(files))
    hub.set_speed(3_000_000)
    attempt = engine.begin(RELATED, Q4_K_M, replaces=True)
    engine.log.wait_for_progress(attempt, lambda one: not one.reused_bytes and one.received_bytes > 1_000_000)
    hub.set_speed(0)
    engine.stop(attempt)
    state = Journal.read(journal_path(engine.target(RELATED, Q4_K_M)))
    hub.set_speed()

    end, _ = fetch(engine, Q4_K_M, replaces=True)

    assert state is not None
    assert state.record.is_copy_wrong
    assert end.files[0].reused_bytes == 0


def test_a_hub_that_ignores_ranges_sends_the_whole_and_nothing_is_copied(hub, engine) -> None:
    place(hub, engine.folder, Q4_K_S)
    hub.faults.add(IgnoreRange(), path=Q4_K_M, origin="cdn", times=None)

    end, _ = fetch(engine, Q4_K_M)

    assert end.files[0].reused_bytes == 0


def test_a_file_with_an_unreadable_header_is_downloaded(hub, engine) -> None:
    place(hub, engine.folder, Q4_K_S)
    broken = altered_content(content_of(hub, Q4_K_M), 30)
    hub.move_branch(RELATED, "main", make_files(related_files() | {Q4_K_M: broken}))

    end, _ = fetch(engine, Q4_K_M)

    assert end.files[0].reused_bytes == 0


def test_a_broken_donor_is_skipped(hub, engine) -> None:
    donor = place(hub, engine.folder, Q4_K_S)
    donor.write_bytes(b"GGUF" + bytes(2_000_000))

    end, _ = fetch(engine, Q4_K_M)

    assert end.files[0].reused_bytes == 0


def test_a_truncated_donor_gives_its_remaining_tensors(hub, engine) -> None:
    donor = place(hub, engine.folder, Q4_K_S)
    os.truncate(donor, content_of(hub, Q4_K_S).size_bytes - 300_000)

    fetch(engine, Q4_K_M)


def test_failed_samples_are_requested_again(hub, engine) -> None:
    place(hub, engine.folder, Q4_K_S)
    hub.faults.add(Status(503), path=Q4_K_M, origin="cdn", times=3)

    end, _ = fetch(engine, Q4_K_M)

    assert end.files[0].reused_bytes > 0


def test_tensors_of_a_donor_deleted_before_the_copy_are_downloaded(hub, engine) -> None:
    donor = place(hub, engine.folder, Q4_K_S)
    hub.set_speed(50_000)
    attempt = engine.begin(RELATED, Q4_K_M)
    engine.log.wait_for_progress(attempt, lambda one: one.notice_kind == "comparing" and one.received_bytes > 0)
    donor.unlink()
    hub.set_speed()

    end = engine.log.end_of(attempt)

    assert isinstance(end, TransferFinished)
    assert end.files[0].reused_bytes == 0
    assert sha256_of(engine.target(RELATED, Q4_K_M)) == right(hub, Q4_K_M)


@pytest.mark.slow
def test_a_lease_lost_during_comparison_is_awaited(hub, engine) -> None:
    place(hub, engine.folder, Q4_K_S)
    hub.set_speed(50_000)
    attempt = engine.begin(RELATED, Q4_K_M)
    engine.log.wait_for_progress(attempt, lambda one: one.notice_kind == "comparing" and one.received_bytes > 0)
    lease = lease_path(engine.target(RELATED, Q4_K_M))
    theirs = lease.with_name("theirs")
    theirs.write_text('{"owner": "another", "place": "elsewhere", "pid": 1, "beat": 1, "downloaded_bytes": 7}')
    theirs.replace(lease)
    engine.log.wait_for_progress(attempt, lambda one: one.notice_kind == "waiting")
    hub.set_speed()

    end = engine.log.end_of(attempt)

    assert isinstance(end, TransferFinished)
    assert end.files[0].reused_bytes > 0
    assert sha256_of(engine.target(RELATED, Q4_K_M)) == right(hub, Q4_K_M)


@pytest.mark.slow
def test_raw_parts_of_a_file_are_joined_as_usual(make_hub, tmp_path) -> None:
    whole = b"".join(map(bytes, related_files()[Q4_K_M].slices()))
    pieces = {f"{Q4_K_M}.part{number + 1}of2": whole[number * 9_000_000 :][: 9_000_000 if number == 0 else None]
              for number in (0, 1)}  # fmt: skip
    hub = make_hub([make_repository(RELATED, {Q4_K_S: related_files()[Q4_K_S], **pieces})])
    engine = LocalEngine(hub, tmp_path / "models", reuse_limits=SMALL)
    place(hub, engine.folder, Q4_K_S)
    target = str(engine.target(RELATED, Q4_K_M))
    first, second = planned(hub, RELATED, *pieces, folder=engine.folder, target=target)

    attempt = engine.begin(RELATED, files=(first, replace(second, offset_bytes=9_000_000)))
    end = engine.log.end_of(attempt)

    assert isinstance(end, TransferFinished)
    assert engine.target(RELATED, Q4_K_M).read_bytes() == whole
    engine.close()


# Stops and kills.


def test_a_stop_during_comparison_keeps_its_bytes_for_the_resume(hub, engine) -> None:
    place(hub, engine.folder, Q4_K_S)
    hub.set_speed(200_000)
    attempt = engine.begin(RELATED, Q4_K_M)
    engine.log.wait_for_progress(attempt, lambda one: one.received_bytes > 70_000)
    hub.set_speed(0)
    end, _ = engine.stop(attempt)
    before = engine.log.progress_of(attempt)[-1].received_bytes
    hub.set_speed()

    _, received = fetch(engine, Q4_K_M)
    place(hub, engine.folder, Q4_K_S)
    engine.target(RELATED, Q4_K_M).unlink()
    _, at_once = fetch(engine, Q4_K_M)

    assert isinstance(end, TransferStopped)
    assert received + before <= at_once + 300_000


@pytest.fixture
def large(make_hub, tmp_path: Path) -> Iterator[EngineProcess]:
    """The real process with its default limits, and a model of 700 MB with one local file."""
    model = {"embedding": 2048, "feed_forward": 6144, "layers": 9}
    hub = make_hub([related_repository(**model)])
    engine = EngineProcess(hub, tmp_path / "models", tmp_path / "state")
    place(hub, engine.folder, Q8_0)
    move_to(hub, chat_template="longer " * 1000, **model)
    yield engine
    engine.close()


@pytest.mark.slow
def test_a_copy_resumes_where_a_killed_engine_left_it(large) -> None:
    hub, target = large.hub, large.target(RELATED, Q8_0)
    attempt = large.begin(RELATED, Q8_0, replaces=True)
    large.log.wait_for_progress(attempt, lambda one: one.reused_bytes > 0)
    os.kill(large.client.pid, signal.SIGKILL)
    large.log.wait_for(lambda events: any(isinstance(one, EngineLost) for one in events))
    state = Journal.read(journal_path(target))

    end = large.fetch(RELATED, Q8_0, replaces=True)

    size_bytes = content_of(hub, Q8_0).size_bytes
    assert state is not None
    assert Pieces(None, state.runs).copied_bytes < size_bytes * 0.99, "it ended before it could be stopped"
    assert end.files[0].reused_bytes > size_bytes * 0.98
    assert hub.bytes_sent(Q8_0) < size_bytes * 0.02 + 2 * header_bytes(hub, Q8_0)
    assert sha256_of(target) == right(hub, Q8_0)
    assert not part_path(target).exists()


# Any two files.


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pair=random_files(longest_bytes=60_000), share=st.sampled_from([0.3, 0.6, 1.0]))
def test_any_local_files_lead_to_the_right_bytes(hub, tmp_path_factory, pair, share) -> None:
    wanted, donors = pair
    hub.add_repository(make_repository("demo/any", {"wanted.gguf": bytes_content(wanted)}))
    folder = tmp_path_factory.mktemp("models")
    (folder / "demo/any").mkdir(parents=True)
    for number, donor in enumerate(donors):
        (folder / f"demo/any/donor-{number}.gguf").write_bytes(donor)
    engine = LocalEngine(hub, folder, reuse_limits=ReuseLimits(1, 10**9, share))

    end = engine.fetch("demo/any", "wanted.gguf")

    assert (folder / "demo/any/wanted.gguf").read_bytes() == wanted
    assert end.files[0].reused_bytes <= len(wanted)
    engine.close()


# A copy slowed down so that it can be observed.


class HeldCopying:
    """Copies in small steps, each of which waits a moment until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self._read = reuse.read_at

    def __call__(self, fd: int, length: int, offset: int) -> bytes:
        if threading.current_thread().name == "gglib-copy" and not self.released.wait(0.02):
            length = min(length, 65_536)
        return self._read(fd, length, offset)


@pytest.fixture
def held(monkeypatch, hub, engine) -> Iterator[threading.Event]:
    """A donor from which everything can be copied, and the event that releases the copy."""
    copying = HeldCopying()
    monkeypatch.setattr(reuse, "read_at", copying)
    place(hub, engine.folder, Q4_K_M).rename(engine.target(RELATED, "older-Q4_K_M.gguf"))
    yield copying.released
    copying.released.set()


def begin_to_copy(engine: LocalEngine) -> int:
    attempt = engine.begin(RELATED, Q4_K_M)
    engine.log.wait_for_progress(attempt, lambda one: one.reused_bytes > 0)
    return attempt


def test_during_a_copy_a_notice_is_shown_and_the_digest_follows(held, engine) -> None:
    attempt = begin_to_copy(engine)
    engine.log.wait_for_progress(attempt, lambda one: one.notice_kind == "copying")
    held.set()

    assert isinstance(engine.log.end_of(attempt), TransferFinished)
    assert sha256_of(engine.target(RELATED, Q4_K_M)) == right(engine.hub, Q4_K_M)


def test_a_stop_during_a_copy_keeps_copied_bytes_and_a_resume_copies_the_rest(held, hub, engine) -> None:
    end, _ = engine.stop(begin_to_copy(engine))
    state = Journal.read(journal_path(engine.target(RELATED, Q4_K_M)))
    sent = hub.bytes_sent(Q4_K_M)
    held.set()

    finished, received = fetch(engine, Q4_K_M)

    assert isinstance(end, TransferStopped)
    assert state is not None
    assert 0 < Pieces(None, state.runs).copied_bytes < content_of(hub, Q4_K_M).size_bytes / 2
    assert finished.files[0].reused_bytes == content_of(hub, Q4_K_M).size_bytes - sent - received
    assert received == 0  # header and samples were present


def test_if_a_donor_changes_during_a_copy_the_rest_is_downloaded(held, hub, engine) -> None:
    attempt = begin_to_copy(engine)
    with engine.target(RELATED, "older-Q4_K_M.gguf").open("r+b") as file:
        file.write(b"rewritten")
    held.set()

    end = engine.log.end_of(attempt)

    assert isinstance(end, TransferFinished)
    assert 0 < end.files[0].reused_bytes < content_of(hub, Q4_K_M).size_bytes / 2
    assert sha256_of(engine.target(RELATED, Q4_K_M)) == right(hub, Q4_K_M)


@pytest.mark.slow
def test_a_lease_lost_during_a_copy_suspends_the_copy_until_it_is_regained(held, hub, engine) -> None:
    attempt = begin_to_copy(engine)
    lease = lease_path(engine.target(RELATED, Q4_K_M))
    theirs = lease.with_name("theirs")
    theirs.write_text('{"owner": "another", "place": "elsewhere", "pid": 1, "beat": 1, "downloaded_bytes": 7}')
    theirs.replace(lease)
    engine.log.wait_for_progress(attempt, lambda one: one.notice_kind == "waiting")
    held.set()

    end = engine.log.end_of(attempt)

    assert isinstance(end, TransferFinished)
    assert sha256_of(engine.target(RELATED, Q4_K_M)) == right(hub, Q4_K_M)
