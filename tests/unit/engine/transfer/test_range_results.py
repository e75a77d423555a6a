"""What a range that ended means for its part: bytes kept, failures forgiven or counted, ways of fetching changed."""

from types import SimpleNamespace

import pytest

from gglib_nb.engine.http import BusyError, LineError, RangeIgnoredError, RefusedError
from gglib_nb.engine.resolve import Remote
from gglib_nb.engine.retry import Connectivity
from gglib_nb.engine.storage.byte_ranges import MIB
from gglib_nb.engine.storage.lease import LeaseLostError
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer.connection_worker import RequestEnded
from gglib_nb.engine.transfer.mailbox import Mailbox
from gglib_nb.engine.transfer.range_results import RangeResults
from gglib_nb.errors import DiskFullError, NetworkError
from tests.support.targets import a_target, fetched

PIECE = bytes(range(256)) * 1024


class FakeScheduler:
    """A scheduler of one target without connections; notes what is asked of it."""

    def __init__(self, target) -> None:
        self.refetched = []
        self.refused = 0
        self.stalls = 0
        self.stalled = []
        self.pool = SimpleNamespace(busy=[], moved_s=0.0, refused=self._refused, note_stall=self._note_stall)
        self._target = target

    def take_back(self, ended, _now_s):
        if ended.request not in self._target.requests:
            return None
        self._target.end_request(ended.request)
        return self._target

    def abandon_stalled(self, _now_s, _timeouts):
        for request in self.stalled:
            self._target.end_request(request)
        return [(self._target, request) for request in self.stalled]

    def refetch_part(self, _target, part, _now_s) -> None:
        self.refetched.append(part)

    def _note_stall(self, _now_s) -> None:
        self.stalls += 1

    def _refused(self, _now_s) -> None:
        self.refused += 1


class Ranges:
    """One target that is fetched, and the results of its ranges."""

    def __init__(self, folder) -> None:
        self.target = a_target(folder, [PIECE])
        self.partial = fetched(self.target, Mailbox())
        self.part = self.target.parts[0]
        self.part.remote = Remote("http://cdn/1", len(PIECE), None)
        self.scheduler = FakeScheduler(self.target)
        self.lost = []
        self.can_reach_hub = True
        self.connectivity = Connectivity(lambda: self.can_reach_hub, lambda work: work())
        self.results = RangeResults(self.scheduler, Timeouts(first_delay_s=60), self.connectivity, self.lost.append)

    def a_request(self):
        request = self.target.next_request(0, MIB)
        assert request is not None
        return request

    def end(self, request, error=None) -> None:
        self.results.ended(RequestEnded(None, request, error))


@pytest.fixture
def ranges(tmp_path):
    ranges = Ranges(tmp_path)
    yield ranges
    ranges.partial.close(is_ours=True)


def test_a_range_that_ended_well_forgives_earlier_failures(ranges) -> None:
    ranges.part.troubles.failed(LineError("reset"), 0.0)
    ranges.part.troubles.retry_at_s = 0.0
    request = ranges.a_request()
    request.write(memoryview(PIECE))

    ranges.end(request)

    assert ranges.part.troubles.text == ""
    assert ranges.target.has_all_bytes


def test_a_broken_range_keeps_its_bytes_and_its_part_waits(ranges) -> None:
    request = ranges.a_request()
    request.write(memoryview(PIECE[:1_000]))

    ranges.end(request, LineError("reset"))

    assert ranges.target.done.total_bytes == 1_000
    assert ranges.part.troubles.text == "reset"
    assert ranges.part.troubles.retry_at_s > 0


def test_without_a_network_a_broken_range_counts_as_no_failure(ranges) -> None:
    ranges.can_reach_hub = False

    for _ in range(5):
        ranges.end(ranges.a_request(), LineError("refused"))
        ranges.part.troubles.retry_at_s = 0

    assert ranges.part.troubles.last is None


def test_failures_without_a_worthwhile_gain_add_up_to_the_end_of_the_attempt(ranges) -> None:
    ranges.end(ranges.a_request(), LineError("reset"))
    ranges.part.troubles.retry_at_s = ranges.part.troubles._patience_s = 0

    with pytest.raises(NetworkError):
        ranges.end(ranges.a_request(), LineError("reset"))


def test_a_failure_about_a_url_that_was_replaced_meanwhile_does_not_count(ranges) -> None:
    request = ranges.a_request()
    ranges.part.remote = Remote("http://cdn/2", len(PIECE), None)

    ranges.end(request, RefusedError(403))

    assert ranges.part.remote.url == "http://cdn/2"


def test_an_expired_url_is_resolved_again(ranges) -> None:
    ranges.end(ranges.a_request(), RefusedError(403))

    assert ranges.part.remote is None


def test_a_server_that_is_busy_while_others_receive_gets_fewer_connections(ranges) -> None:
    ranges.scheduler.pool.busy.append(object())
    ranges.scheduler.pool.moved_s = float("inf")

    ranges.end(ranges.a_request(), BusyError(429, None))

    assert ranges.scheduler.refused == 1


def test_a_server_that_ignores_ranges_is_asked_for_the_whole_from_its_first_byte(ranges) -> None:
    ranges.end(ranges.a_request(), RangeIgnoredError("the range was ignored"))

    assert ranges.part.is_sequential
    assert ranges.scheduler.refetched == [ranges.part]


def test_a_file_that_comes_as_a_whole_only_begins_again_when_it_breaks(ranges) -> None:
    ranges.part.is_sequential = True

    ranges.end(ranges.a_request(), LineError("reset"))

    assert ranges.scheduler.refetched == [ranges.part]


def test_a_range_that_was_taken_away_before_means_nothing_any_more(ranges) -> None:
    request = ranges.a_request()
    ranges.target.end_request(request)

    ranges.end(request, LineError("reset"))

    assert ranges.part.troubles.last is None


def test_a_lease_that_only_was_not_renewed_in_time_is_kept(ranges) -> None:
    ranges.end(ranges.a_request(), LeaseLostError("the lease was not renewed in time"))

    assert ranges.lost == []


def test_a_lease_that_another_process_has_is_lost(ranges) -> None:
    ranges.target.lease._path.write_bytes(b"{}")

    ranges.end(ranges.a_request(), LeaseLostError("the lease was not renewed in time"))

    assert ranges.lost == [ranges.target]


def test_an_error_that_no_other_try_heals_ends_the_attempt(ranges) -> None:
    with pytest.raises(DiskFullError):
        ranges.end(ranges.a_request(), DiskFullError("full", needed_bytes=1, free_bytes=0))


def test_a_stalled_range_is_a_failure_of_the_line(ranges) -> None:
    ranges.scheduler.stalled = [ranges.a_request()]

    ranges.results.take_stalled(0.0)

    assert ranges.part.troubles.text == "cdn has not answered for 15 s"
    assert ranges.scheduler.stalls == 1


def test_the_end_of_a_body_of_unknown_length_is_the_end_of_its_part(tmp_path) -> None:
    ranges = Ranges(tmp_path)
    request = ranges.a_request()
    request.write(memoryview(PIECE[:5]))
    request.end_here()
    ranges.part.end = None

    ranges.end(request)

    assert ranges.part.end == 5
    ranges.partial.close(is_ours=True)
