"""Which host runs what: attempts placed on hosts, ends and losses reported to the queue, limits shared.

It is long because hosts can affect an attempt in many ways; all tests use the same fake hosts.
"""

import pytest
from msgspec.structs import replace

from gglib_nb.cluster.dispatcher import ClusterHost, Dispatcher, SendCommand
from gglib_nb.domain.download import HostFolder, HostProgress, PlannedFile, ShardStatus, StoredFile
from gglib_nb.domain.reports import (
    DiscardPartials,
    EngineLost,
    EnginesChanged,
    EngineSilent,
    FileProgress,
    LimitConcurrency,
    Progress,
    StopTransfer,
    TransferFailed,
    TransferFinished,
    TransferStopped,
    TransferWaits,
)
from gglib_nb.engine.protocol import (
    CheckEnded,
    CheckFiles,
    Configure,
    FileToCheck,
    Ready,
    StartEverywhere,
    StartTransfer,
    StopCheck,
)
from gglib_nb.errors import ClusterError, NetworkError

CONFIGURE = Configure("http://hub", None, None, 16, (), "test")
SIZE = 1_000
ERROR = NetworkError("The line was cut.")


class Cluster:
    """A dispatcher, and the last commands to each host's engine."""

    def __init__(self, *hosts, slots=1, configure=CONFIGURE, here=None):
        self.dispatcher = Dispatcher(configure)
        self.dispatcher.take(LimitConcurrency(slots))
        self.here = here
        self.actions = []
        for host in hosts:
            self.join(host)

    def do(self, actions):
        self.actions = list(actions)
        return self

    def join(self, host):
        return self.do(self.dispatcher.host_joined(host, self.here))

    def leave(self, name):
        return self.do(self.dispatcher.host_left(name, "it has stopped"))

    def start(self, number, **how):
        return self.do(self.dispatcher.take(a_start(number, **how)))

    def stop(self, number):
        return self.do(self.dispatcher.take(StopTransfer(number)))

    def hear(self, host, report, now_s=5.0):
        return self.do(self.dispatcher.take_report(host, report, now_s))

    def of(self, kind):
        return [action for action in self.actions if isinstance(action, kind)]

    def commands(self, kind):
        """(host, command) of one kind."""
        return [(sent.host, sent.command) for sent in self.of(SendCommand) if isinstance(sent.command, kind)]

    @property
    def started(self):
        """host -> number of its engine's new attempt."""
        return {host: command.attempt for host, command in self.commands(StartTransfer)}


def a_host(name, folder="shared", free=None):
    return ClusterHost(name, folder, f"/{name}/models", free)


def a_start(number, *, size=SIZE, everywhere=False):
    file = PlannedFile("m.gguf", size, "a" * 64, f"/models/o/r{number}/m.gguf")
    transfer = StartTransfer(number, f"o/r{number}", "c" * 40, (file,), False)
    return StartEverywhere(transfer) if everywhere else transfer


def progress(number, downloaded, *, received=0, status=ShardStatus.DOWNLOADING, **how):
    return Progress(number, 1.0, (FileProgress(downloaded, status),), received, **how)


def finished(number, target="/there/m.gguf"):
    return TransferFinished(number, (StoredFile(target, "m.gguf", "shard", SIZE, "a" * 64, True, 1, False, {}),))


# Placing ---------------------------------------------------------------------------------------------------------


def test_each_host_takes_one_download_per_slot_and_the_others_wait():
    cluster = Cluster(a_host("a"), a_host("b"))

    placed = [cluster.start(number).started for number in (1, 2, 3)]

    assert placed == [{"a": 1}, {"b": 2}, {}]
    assert cluster.of(TransferWaits) == [TransferWaits(3, "waiting for a free host")]


def test_waiting_downloads_start_in_order_when_a_host_is_free():
    cluster = Cluster(a_host("a"))
    for number in (1, 2, 3):
        cluster.start(number)

    cluster.hear("a", finished(1))

    assert [command.repo_id for _, command in cluster.commands(StartTransfer)] == ["o/r2"]


def test_without_a_host_downloads_wait_for_a_new_host():
    cluster = Cluster()

    waits = cluster.start(7).of(TransferWaits)
    cluster.join(a_host("a"))

    assert waits == [TransferWaits(7, "waiting for a worker of the cluster")]
    assert cluster.actions[0] == EnginesChanged(1)
    assert cluster.commands(Configure)[0][0] == "a"
    assert cluster.started == {"a": 1}


def test_the_next_download_goes_to_the_host_with_the_fewest_remaining_bytes():
    cluster = Cluster(a_host("a"), a_host("b"), slots=2)
    cluster.start(1, size=10_000)
    cluster.start(2, size=2_000)

    cluster.hear("a", progress(1, 9_000))

    assert cluster.start(3).started == {"a": 3}


def test_a_tie_goes_to_the_first_host_by_name():
    assert Cluster(a_host("c"), a_host("a"), a_host("b")).start(1).started == {"a": 1}


def test_a_host_with_enough_disk_space_comes_before_an_idle_one_without():
    cluster = Cluster(a_host("a", free=10), a_host("b", free=None), slots=2)

    assert [cluster.start(number).started for number in (1, 2)] == [{"b": 1}, {"b": 2}]
    assert cluster.start(3).started == {"a": 3}  # its engine may find an identical file


def test_a_host_with_the_partial_file_resumes_it_although_another_is_idle():
    cluster = Cluster(a_host("a", "left"), a_host("b", "right"), slots=2)
    cluster.start(1)
    cluster.hear("a", progress(1, 500))
    cluster.stop(1)
    cluster.hear("a", TransferStopped(1))
    cluster.start(2, size=10_000)

    cluster.do(cluster.dispatcher.take(replace(a_start(1), attempt=3)))

    assert list(cluster.started) == ["a"]


def test_a_host_with_a_full_disk_is_skipped():
    filling = a_host("a", free=10_000)
    cluster = Cluster(filling, a_host("b", free=10_000))

    filling.free_bytes = 100

    assert cluster.start(1).started == {"b": 1}


# Reports ---------------------------------------------------------------------------------------------------------


def test_progress_names_the_queues_attempt_and_the_host():
    cluster = Cluster(a_host("a"))
    cluster.start(41)

    cluster.hear("a", progress(1, 300, received=300))

    assert cluster.actions == [
        replace(progress(41, 300, received=300), hosts=(HostProgress("a", 300, SIZE),)),
    ]


def test_a_finished_download_names_every_host_that_can_access_the_files():
    cluster = Cluster(a_host("a"), a_host("b"), a_host("c", folder="own"))
    cluster.start(9)

    cluster.hear("a", finished(1))

    (end,) = cluster.of(TransferFinished)
    assert end.hosts == (HostFolder("a", "/a/models"), HostFolder("b", "/b/models"))
    assert end.files == finished(9).files


def test_on_a_shared_folder_a_file_has_the_path_that_the_queue_requested():
    cluster = Cluster(a_host("a"), here="shared")
    cluster.start(9)

    cluster.hear("a", finished(1))

    assert cluster.of(TransferFinished)[0].files == finished(9, "/models/o/r9/m.gguf").files


def test_a_failure_names_the_queues_attempt_and_frees_its_host():
    cluster = Cluster(a_host("a"))
    cluster.start(5)
    cluster.start(6)

    cluster.hear("a", TransferFailed(1, ERROR, True))

    assert cluster.of(TransferFailed) == [TransferFailed(5, ERROR, True)]
    assert cluster.started == {"a": 2}


def test_reports_of_an_ended_attempt_or_another_host_are_ignored():
    cluster = Cluster(a_host("a"), a_host("b"))
    cluster.start(1)

    assert cluster.hear("b", finished(1)).actions == []
    cluster.hear("a", finished(1))
    assert cluster.hear("a", progress(1, 10)).actions == []


def test_engine_silence_is_reported_for_the_hosts_own_attempts():
    cluster = Cluster(a_host("a"), a_host("b"))
    cluster.start(1)
    cluster.start(2)

    assert cluster.hear("b", EngineSilent(4.0)).actions == [EngineSilent(4.0, frozenset({2}))]
    cluster.hear("b", finished(2))
    assert cluster.hear("b", EngineSilent(5.0)).actions == []


# Stops -----------------------------------------------------------------------------------------------------------


def test_a_stop_is_sent_to_the_host_and_its_answer_to_the_queue():
    cluster = Cluster(a_host("a"))
    cluster.start(8)

    assert cluster.stop(8).actions == [SendCommand("a", StopTransfer(1))]
    assert cluster.stop(8).actions == []
    assert cluster.hear("a", TransferStopped(1)).actions == [TransferStopped(8)]


def test_stopping_a_waiting_attempt_is_confirmed_at_once():
    cluster = Cluster()
    cluster.start(8)

    assert cluster.stop(8).actions == [TransferStopped(8)]
    assert cluster.join(a_host("a")).started == {}


def test_a_completed_rename_outranks_a_stop():
    cluster = Cluster(a_host("a"))
    cluster.start(8)
    cluster.stop(8)

    assert len(cluster.hear("a", finished(1)).of(TransferFinished)) == 1


def test_one_host_per_folder_deletes_partial_files():
    cluster = Cluster(a_host("a"), a_host("b"), a_host("c", folder="own"))

    cluster.do(cluster.dispatcher.take(DiscardPartials(("/models/o/r/m.gguf",))))

    assert [host for host, _ in cluster.commands(DiscardPartials)] == ["a", "c"]


def a_check(*paths):
    return CheckFiles(3, tuple(FileToCheck(path, SIZE, None, "") for path in paths))


def test_files_are_hashed_by_the_host_that_has_them():
    cluster = Cluster(a_host("a", "x"), a_host("b", "y"))

    check = a_check("/b/models/o/r/m.gguf")

    assert cluster.do(cluster.dispatcher.take(check)).actions == [SendCommand("b", check)]
    assert cluster.do(cluster.dispatcher.take(StopCheck(3))).actions == [SendCommand("b", StopCheck(3))]
    assert cluster.hear("b", CheckEnded(3, ())).actions == [CheckEnded(3, ())]
    assert cluster.do(cluster.dispatcher.take(StopCheck(3))).actions == []


def test_files_in_this_machines_folder_are_hashed_by_a_host_with_access():
    cluster = Cluster(a_host("a", "x"), a_host("b", "home"), here="home")

    cluster.do(cluster.dispatcher.take(a_check("/home/models/o/r/m.gguf")))

    assert [sent.host for sent in cluster.of(SendCommand)] == ["b"]


def test_a_check_ends_if_no_host_can_run_it_or_its_host_is_lost():
    cluster = Cluster(a_host("a", "x"))

    assert cluster.do(cluster.dispatcher.take(a_check("/elsewhere/m.gguf"))).actions == [CheckEnded(3, ())]
    cluster.do(cluster.dispatcher.take(a_check("/a/models/o/r/m.gguf")))
    assert cluster.leave("a").of(CheckEnded) == [CheckEnded(3, ())]


# Losses ----------------------------------------------------------------------------------------------------------


def test_a_lost_host_loses_only_its_own_attempts():
    cluster = Cluster(a_host("a"), a_host("b"))
    cluster.start(1)
    cluster.start(2)

    cluster.leave("a")

    assert cluster.actions[:2] == [EnginesChanged(1), EngineLost("it has stopped", frozenset({1}))]
    assert cluster.leave("a").actions == []


def test_a_lost_download_resumes_on_a_host_with_its_partial_file():
    cluster = Cluster(a_host("a", "left"), a_host("b", "right"), a_host("c", "left"), slots=2)
    cluster.start(1)
    cluster.hear("a", progress(1, 500))
    cluster.leave("a")

    again = replace(a_start(1), attempt=2)
    cluster.do(cluster.dispatcher.take(again))

    assert list(cluster.started) == ["c"]


def test_the_next_attempt_is_given_the_owner_of_the_lost_engine():
    cluster = Cluster(a_host("a"), a_host("b"))
    cluster.hear("a", Ready(77, "77 machine boot"))
    cluster.start(1)
    cluster.hear("a", EngineLost("it was ended by SIGKILL"))

    cluster.start(2)

    assert cluster.commands(StartTransfer)[0][1].gone_owners == ("77 machine boot",)


def test_a_host_stays_usable_after_its_engine_died():
    cluster = Cluster(a_host("a"))
    cluster.start(1)

    lost = cluster.hear("a", EngineLost("it was ended by SIGKILL"))

    assert lost.actions == [EngineLost("it was ended by SIGKILL", frozenset({1}))]
    assert cluster.start(2).started == {"a": 2}


def test_without_a_cluster_waiting_downloads_fail():
    cluster = Cluster()
    cluster.start(1)

    cluster.do(cluster.dispatcher.fail_waiting(ClusterError("No scheduler answers.")))

    (end,) = cluster.of(TransferFailed)
    assert (end.attempt, str(end.error), end.can_retry) == (1, "No scheduler answers.", True)
    assert cluster.dispatcher.fail_waiting(ClusterError("No scheduler answers.")) == []


def test_the_reason_for_having_no_host_is_reported_once():
    cluster = Cluster()
    cluster.start(1)

    first = cluster.dispatcher.say_absence("waiting for the cluster")
    second = cluster.dispatcher.say_absence("waiting for the cluster")

    assert (first, second) == ([TransferWaits(1, "waiting for the cluster")], [])


# Limits ----------------------------------------------------------------------------------------------------------


def limits_of(cluster):
    return [
        (host, one.bandwidth_limit_bytes_per_second, one.max_connections) for host, one in cluster.commands(Configure)
    ]


def test_a_single_active_host_gets_each_limit_in_full():
    cluster = Cluster(a_host("a"), a_host("b"), configure=replace(CONFIGURE, bandwidth_limit_bytes_per_second=900))

    assert limits_of(cluster.start(1)) == []  # as configured when it joined


def test_active_hosts_share_each_limit_before_a_transfer_starts():
    cluster = Cluster(a_host("a"), a_host("b"), configure=replace(CONFIGURE, bandwidth_limit_bytes_per_second=900))
    cluster.start(1)

    cluster.start(2)

    assert limits_of(cluster) == [("a", 450, 8), ("b", 450, 8)]
    assert isinstance(cluster.actions[-1].command, StartTransfer)
    cluster.hear("b", finished(2))
    assert limits_of(cluster) == [("a", 900, 16)]


def test_a_changed_limit_is_shared_again():
    cluster = Cluster(a_host("a"), a_host("b"))
    cluster.start(1)
    cluster.start(2)

    cluster.do(cluster.dispatcher.take(replace(CONFIGURE, bandwidth_limit_bytes_per_second=100)))

    assert limits_of(cluster) == [("a", 50, 8), ("b", 50, 8)]


def test_a_new_token_reaches_a_host_before_its_next_transfer():
    cluster = Cluster(a_host("a"))

    cluster.do(cluster.dispatcher.take(replace(CONFIGURE, token="new")))
    cluster.start(1)

    assert [type(sent.command) for sent in cluster.of(SendCommand)] == [Configure, StartTransfer]
    assert cluster.commands(Configure)[0][1].token == "new"


# Everywhere ------------------------------------------------------------------------------------------------------


@pytest.fixture
def three():
    """Three folders, the first shared by two hosts."""
    return Cluster(a_host("a", "x"), a_host("a2", "x"), a_host("b", "y"), a_host("c", "z"))


def test_every_folder_gets_a_copy_and_the_last_one_completes_the_download(three):
    assert three.start(1, everywhere=True).started == {"a": 1, "b": 2, "c": 3}
    assert three.hear("a", finished(1)).of(TransferFinished) == []
    assert three.hear("b", finished(2)).of(TransferFinished) == []

    three.hear("c", finished(3))

    (end,) = three.of(TransferFinished)
    assert [host.host for host in end.hosts] == ["a", "a2", "b", "c"]


def test_bytes_and_rate_cover_all_copies_and_each_host_has_a_line(three):
    three.start(1, everywhere=True)
    three.hear("a", progress(1, 500, received=500), now_s=7.0)

    three.hear("b", progress(2, 100, received=80), now_s=7.5)

    assert three.actions == [
        Progress(
            1,
            7.5,
            (FileProgress(600, ShardStatus.DOWNLOADING),),
            580,
            hosts=(HostProgress("a", 500, SIZE), HostProgress("b", 100, SIZE), HostProgress("c", 0, SIZE)),
        )
    ]


def test_with_a_limit_copies_are_downloaded_one_at_a_time():
    limited = replace(CONFIGURE, bandwidth_limit_bytes_per_second=900)
    cluster = Cluster(a_host("a", "x"), a_host("b", "y"), configure=limited)

    assert cluster.start(1, everywhere=True).started == {"a": 1}
    cluster.hear("a", progress(1, 10))
    assert cluster.of(Progress)[0].hosts[1] == HostProgress("b", 0, SIZE)
    assert cluster.hear("a", finished(1)).started == {"b": 2}


def test_a_later_host_also_gets_a_copy(three):
    three.start(1, everywhere=True)

    assert three.join(a_host("d", "w")).started == {"d": 4}


def test_a_lost_host_does_not_hold_up_the_download(three):
    three.start(1, everywhere=True)
    three.hear("a", finished(1))
    three.hear("b", finished(2))

    three.leave("c")

    assert [host.host for host in three.of(TransferFinished)[0].hosts] == ["a", "a2", "b"]
    assert three.of(EngineLost) == []


def test_a_copy_whose_engine_died_restarts_and_the_others_continue(three):
    three.start(1, everywhere=True)

    assert three.hear("b", EngineLost("killed")).started == {"b": 4}
    assert three.of(EngineLost) == []


def test_a_copy_whose_engine_keeps_dying_fails_and_the_others_complete(three):
    three.start(1, everywhere=True)
    for _ in range(4):
        three.hear("b", EngineLost("killed"))
    three.hear("a", finished(1))

    three.hear("c", finished(3))

    (end,) = three.of(TransferFailed)
    assert end.attempt == 1
    assert "on b" in str(end.error)


def test_a_failed_copy_fails_the_download_after_the_others_are_complete(three):
    three.start(1, everywhere=True)
    assert three.hear("b", TransferFailed(2, ERROR, False)).of(TransferFailed) == []
    three.hear("a", finished(1))

    three.hear("c", finished(3))

    assert three.of(TransferFailed) == [TransferFailed(1, ERROR, False)]


def test_a_stop_stops_every_copy_and_is_confirmed_with_the_last(three):
    three.start(1, everywhere=True)
    three.hear("a", finished(1))

    assert [sent.host for sent in three.stop(1).of(SendCommand)] == ["b", "c"]
    assert three.hear("b", TransferStopped(2)).of(TransferStopped) == []
    assert three.hear("c", TransferStopped(3)).of(TransferStopped) == [TransferStopped(1)]
