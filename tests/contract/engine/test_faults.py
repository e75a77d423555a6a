"""Faults of a hub and its CDN beyond the fault matrix: unknown sizes and digests, tokens, exact ranges."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from gglib_nb.demo import GRANTED_TOKEN
from gglib_nb.errors import (
    GatedRepoError,
    IntegrityError,
    InvalidTokenError,
    NetworkError,
    RateLimitedError,
    RemoteChangedError,
    StalledError,
)
from tests.support.engine import HASTY, IMPATIENT, LocalEngine, configured, planned
from tests.support.faulty_hub import (
    Cut,
    Direct,
    Gzipped,
    HangUp,
    IgnoreRange,
    NoContentLength,
    NoLinkedHeaders,
    RangeNotSatisfiable,
    RateLimited,
    ShortBody,
    Stall,
    Status,
    WrongBytes,
)
from tests.support.hub import make_repository

REPO = "demo/model"
NAME = "model.gguf"
SIZE = 3_000_000


@pytest.fixture
def hub(make_hub):
    repository = make_repository(REPO, {NAME: SIZE, "README.md": b"# text\n" * 50, "empty.bin": b""})
    gated = make_repository("demo/gated", {NAME: 10_000}, gated="manual")
    return make_hub([repository, gated])


@pytest.fixture
def engine(hub, tmp_path: Path) -> Iterator[LocalEngine]:
    local = LocalEngine(hub, tmp_path)
    yield local
    local.close()


@pytest.fixture
def impatient(hub, tmp_path: Path) -> Iterator[LocalEngine]:
    """An engine that gives up soon."""
    local = LocalEngine(hub, tmp_path, IMPATIENT)
    yield local
    local.close()


def is_right(hub, end, path: str = NAME, repo_id: str = REPO) -> bool:
    content = hub.repositories[repo_id].commit().files[path].content
    (stored,) = end.files
    return hashlib.sha256(Path(stored.target).read_bytes()).hexdigest() == content.sha256


OTHER_HUBS = {
    "ranges from the hub itself": [Direct()],
    "with the linked headers": [Direct(is_linked=True, is_bare=False)],
    "the whole from the hub itself": [Direct(), IgnoreRange()],
    "without a length": [Direct(), IgnoreRange(), NoContentLength(framing="chunked")],
}


@pytest.mark.parametrize("faults", OTHER_HUBS.values(), ids=OTHER_HUBS)
def test_other_hub_implementations_are_supported(hub, engine, faults) -> None:
    for fault in faults:
        hub.faults.add(fault, path=NAME, origin="hub", times=None)

    end = engine.fetch(REPO, NAME, sha256=None, size_bytes=None)

    assert is_right(hub, end)
    assert end.files[0].is_verified


def test_a_size_that_the_hub_states_only_after_the_download_has_begun_does_not_keep_it_from_ending(hub, engine) -> None:
    for fault in (Direct(), IgnoreRange()):
        hub.faults.add(fault, path=NAME, origin="hub", times=None)
    hub.faults.add(NoContentLength(framing="chunked"), path=NAME, origin="hub", times=2)
    hub.faults.add(Status(403), path=NAME, origin="hub", skip=1)  # it is asked for another address

    end = engine.fetch(REPO, NAME, sha256=None, size_bytes=None)

    assert is_right(hub, end)


def test_a_body_of_unknown_length_that_ended_early_is_fetched_again_to_its_real_end(hub, engine) -> None:
    hub.faults.add(NoLinkedHeaders(), path=NAME, origin="hub", times=None)
    hub.faults.add(ShortBody(missing_bytes=1_000_000), path=NAME, origin="cdn")
    for fault in (IgnoreRange(), NoContentLength()):
        hub.faults.add(fault, path=NAME, origin="cdn", times=None)

    end = engine.fetch(REPO, NAME, size_bytes=None)

    assert is_right(hub, end)
    assert end.files[0].is_verified


def test_ranges_are_not_requested_again_after_being_ignored_once(hub, engine) -> None:
    hub.faults.add(IgnoreRange(), path=NAME, origin="cdn", times=None)
    hub.faults.add(Cut(after_bytes=100_000), path=NAME, origin="cdn")

    end = engine.fetch(REPO, NAME)

    assert is_right(hub, end)
    assert hub.ranges(NAME)[-1] is None


def test_a_file_of_unknown_size_is_whole_although_a_bandwidth_limit_is_lifted_meanwhile(hub, engine) -> None:
    hub.faults.add(NoLinkedHeaders(), path=NAME, origin="hub", times=None)
    for fault in (IgnoreRange(), NoContentLength(framing="chunked")):
        hub.faults.add(fault, path=NAME, origin="cdn", times=None)
    engine.send(configured(hub, bandwidth_limit_bytes_per_second=1_000_000))
    attempt = engine.begin(REPO, NAME, sha256=None, size_bytes=None)
    engine.log.wait_for_progress(attempt, lambda one: one.received_bytes > 0)

    engine.send(configured(hub))

    assert is_right(hub, engine.log.end_of(attempt))


@pytest.mark.parametrize("refusals", [0, 2], ids=["asked for a range", "asked for the whole"])
def test_a_server_that_sends_only_the_whole_sends_it_once_although_a_bandwidth_limit_is_lifted(
    hub, engine, refusals
) -> None:
    hub.faults.add(IgnoreRange(), path=NAME, origin="cdn", times=None)
    hub.faults.add(RangeNotSatisfiable(), path=NAME, origin="cdn", times=refusals)
    engine.send(configured(hub, bandwidth_limit_bytes_per_second=2_000_000))
    attempt = engine.begin(REPO, NAME)
    engine.log.wait_for_progress(attempt, lambda one: one.received_bytes > SIZE / 2)

    engine.send(configured(hub))

    assert is_right(hub, engine.log.end_of(attempt))
    assert engine.log.progress_of(attempt)[-1].received_bytes == SIZE


@pytest.mark.slow
@pytest.mark.parametrize("known", [{}, {"sha256": None}, {"sha256": None, "size_bytes": None}])
def test_a_response_compressed_against_our_request_is_decompressed(hub, engine, known) -> None:
    hub.faults.add(Gzipped(is_forced=True), path=NAME, origin="cdn", times=None)
    hub.faults.add(NoLinkedHeaders(), path=NAME, origin="hub", times=None)

    end = engine.fetch(REPO, NAME, **known)

    assert is_right(hub, end)
    assert end.files[0].is_verified == (not known)


def test_a_server_that_never_completes_a_whole_file_is_given_up(hub, tmp_path) -> None:
    engine = LocalEngine(hub, tmp_path, replace(IMPATIENT, give_up_s=2))  # it first learns that ranges are ignored
    hub.faults.add(IgnoreRange(), path=NAME, origin="cdn", times=None)
    hub.faults.add(Cut(after_bytes=2_000_000), path=NAME, origin="cdn", times=None)

    assert isinstance(engine.failure(REPO, NAME), NetworkError)
    engine.close()


def test_wrong_bytes_twice_raise_an_integrity_error_and_leave_no_file(hub, engine) -> None:
    hub.faults.add(WrongBytes(at_byte=5), path=NAME, origin="cdn", times=None)

    error = engine.failure(REPO, NAME)

    assert isinstance(error, IntegrityError)
    assert error.expected == hub.repositories[REPO].commit().files[NAME].content.sha256
    assert error.actual not in ("", error.expected)
    assert len(hub.ranges(NAME)) == 2
    assert not engine.target(REPO, NAME).exists()


def test_a_connection_that_always_breaks_raises_a_network_error_and_keeps_downloaded_bytes(hub, impatient) -> None:
    hub.faults.add(Cut(after_bytes=500_000), path=NAME, origin="cdn")
    hub.faults.add(HangUp(), path=NAME, origin="cdn", times=None, skip=1)

    error = impatient.failure(REPO, NAME)

    assert isinstance(error, NetworkError)
    hub.faults.clear()
    impatient.fetch(REPO, NAME)
    assert hub.ranges(NAME)[-1] == (500_000, SIZE - 1)


@pytest.mark.slow
def test_a_permanent_stall_is_reported_in_seconds_and_ends_in_an_error(hub, tmp_path) -> None:
    engine = LocalEngine(hub, tmp_path, replace(HASTY, give_up_s=1.5))
    stall = Stall(after_bytes=500_000)
    hub.faults.add(stall, path=NAME, origin="cdn")
    hub.faults.add(Stall(), path=NAME, origin="cdn", times=None, skip=1)

    error = engine.failure(REPO, NAME)
    engine.close()

    assert isinstance(error, StalledError)
    seconds = [one.notice_s for one in engine.log.progress_of(1) if one.notice_kind == "stalled"]
    assert seconds
    assert all(earlier <= later for earlier, later in pairwise(seconds))


def test_a_permanent_rate_limit_ends_in_an_error_with_its_seconds(hub, impatient) -> None:
    hub.faults.add(RateLimited(0, stated_by="retry-after"), path=NAME, origin="hub", times=None)

    error = impatient.failure(REPO, NAME)

    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == 0


def test_another_file_under_the_planned_name_is_refused(hub, engine) -> None:
    error = engine.failure(REPO, NAME, sha256="0" * 64)

    assert isinstance(error, RemoteChangedError)
    assert hub.ranges(NAME) == []


def test_without_a_digest_the_file_is_stored_as_unverified(hub, engine) -> None:
    hub.faults.add(NoLinkedHeaders(), path=NAME, origin="hub")

    end = engine.fetch(REPO, NAME, sha256=None)

    assert is_right(hub, end)
    assert not end.files[0].is_verified


def test_the_cdns_etag_is_never_used_as_a_digest(hub, engine) -> None:
    hub.faults.add(NoLinkedHeaders(), path=NAME, origin="hub", times=None)

    end = engine.fetch(REPO, NAME, sha256=None, size_bytes=None)

    assert is_right(hub, end)
    assert not end.files[0].is_verified


def test_a_small_file_is_downloaded_through_the_resolve_cache(hub, engine) -> None:
    end = engine.fetch(REPO, "README.md", sha256=None, size_bytes=None)

    assert is_right(hub, end, "README.md")


def test_an_empty_file_is_downloaded(hub, engine) -> None:
    end = engine.fetch(REPO, "empty.bin")

    assert is_right(hub, end, "empty.bin")


def test_the_token_is_sent_to_a_renamed_repository(make_hub, tmp_path) -> None:
    hub = make_hub([make_repository("demo/new", {NAME: 10_000}, renamed_from=("demo/old",), gated="manual")])
    engine = LocalEngine(hub, tmp_path, token=GRANTED_TOKEN)
    commit = hub.repositories["demo/new"].commit().sha

    from gglib_nb.engine.protocol import StartTransfer

    engine.send(StartTransfer(1, "demo/old", commit, planned(hub, "demo/new", NAME, folder=tmp_path), force=False))

    assert is_right(hub, engine.log.end_of(1), repo_id="demo/new")
    engine.close()


def test_the_token_is_sent_to_the_hub_and_never_to_the_cdn(hub, tmp_path) -> None:
    engine = LocalEngine(hub, tmp_path, token=GRANTED_TOKEN)

    engine.fetch("demo/gated", NAME)

    with_token = {one.origin for one in hub.requests if "authorization" in one.headers}
    assert with_token == {"hub"}
    assert {one.headers["accept-encoding"] for one in hub.requests} == {"identity"}
    engine.close()


def test_every_url_names_the_commit(hub, engine) -> None:
    engine.fetch(REPO, NAME)

    commit = hub.repositories[REPO].commit().sha
    assert all(commit in one.path for one in hub.requests if one.origin == "hub")


def test_a_gated_repository_names_the_page_for_accepting_its_terms(hub, engine) -> None:
    error = engine.failure("demo/gated", NAME)

    assert isinstance(error, GatedRepoError)
    assert error.accept_url == f"{hub.url}/demo/gated"


def test_a_rejected_token_has_its_own_error(hub, tmp_path) -> None:
    engine = LocalEngine(hub, tmp_path, token="hf_wrong")

    assert isinstance(engine.failure(REPO, NAME), InvalidTokenError)
    engine.close()


def test_a_network_outage_beyond_the_limit_fails_the_download(hub, tmp_path) -> None:
    engine = LocalEngine(hub, tmp_path, network_wait_s=1)
    hub.faults.add(HangUp(), times=None)

    error = engine.failure(REPO, NAME)
    engine.close()

    assert isinstance(error, NetworkError)
    assert "No network since" in str(error)
