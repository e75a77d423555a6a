"""Lines of `%gguf` in a real IPython shell, with a fake manager that answers at once.

It is long because it tests every verb's answers, refusals and completions.
"""

import copyreg
import io
import signal
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace

import pytest
from IPython.core.error import StdinNotImplementedError, UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from gglib_nb.domain.download import DownloadStatus, StoredFile
from gglib_nb.domain.importing import ImportReport
from gglib_nb.domain.library import (
    CheckedFile,
    Deletion,
    ModelUpdate,
    ModelUse,
    PrunePlan,
    Verification,
    WorkProgress,
)
from gglib_nb.domain.loading import PresetFile
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.plan import RepoSummary
from gglib_nb.domain.snapshot import Then
from gglib_nb.domain.stored import PastDownload
from gglib_nb.domain.units import DailyHours
from gglib_nb.errors import (
    DownloadsFailedError,
    GatedRepoError,
    NetworkError,
    NoGgufFilesError,
    QueueFullError,
    StorageError,
)
from gglib_nb.notebook import get_verbs, magic, progress
from gglib_nb.notebook.session import Screen
from tests.support.fake_manager import FakeManager
from tests.support.sentences import is_sentence
from tests.support.snapshots import GB, download, snapshot

ACTIVE = download("owner/active:Q4_K_M", DownloadStatus.DOWNLOADING)
FIRST = download("owner/first:Q8_0", position=1)
SECOND = download("owner/second:Q8_0", position=2)
FAILED = download("owner/failed:Q8_0", DownloadStatus.FAILED, error=NetworkError("Cut."), can_retry=True)
FILE = StoredFile("/models/a/b/b.gguf", "b.gguf", "shard", 1024, "0" * 64, True, 1, False, {"architecture": "llama"})
MODEL = Model(DownloadId("a/b", "Q8_0"), "c" * 40, "Q8_0", (FILE,), 1000.0)


@pytest.fixture
def shell():
    # The singleton, which `display` uses.
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    yield shell
    magic.unload(shell)
    InteractiveShell.clear_instance()


@pytest.fixture
def manager(shell):
    """A manager that queues each request after the existing ones."""
    manager = FakeManager(ACTIVE, FIRST, SECOND, FAILED)

    def queue(id_, reason=""):
        snapshot = manager.snapshot
        if all(item.id != id_ for item in snapshot.items):
            item = download(str(id_), position=snapshot.pending_count + 1, reason=reason)
            failures = tuple(failed for failed in snapshot.recent_failures if failed.id != id_)
            manager.snapshot = replace(snapshot, items=(*snapshot.items, item), recent_failures=failures)
        return id_

    def queue_smart(repo_id, quantization, *, revision, **_options):
        id_ = DownloadId(repo_id, quantization or "Q4_K_M", revision)
        return SimpleNamespace(id=queue(id_, "" if quantization else "Q4_K_M is the first choice."))

    def limit(number):
        manager.snapshot = replace(manager.snapshot, max_size=number)

    manager.answers = {
        "queue_smart": queue_smart,
        "queue_download": lambda request: queue(request.id),
        "retry": queue,
        "reorder_queue": lambda _id, position: position,
        "set_max_queue_size": limit,
    }
    magic.load(shell, lambda: manager)
    return manager


def asked(manager):
    """The manager's calls: operation and arguments, with ids as text."""
    return [
        (operation, *(str(one) if isinstance(one, DownloadId) else one for one in (*arguments, *keywords.values())))
        for operation, arguments, keywords in manager.asked
    ]


def run(shell, line):
    with capture_output() as captured:
        shell.run_cell(f"%gguf {line}").raise_error()
    shown = [output.data["text/plain"] for output in captured.outputs]
    return (captured.stdout + "\n".join(shown)).rstrip("\n")


def failure(shell, line):
    with capture_output() as captured:
        result = shell.run_cell(f"%gguf {line}")
    return result.error_in_exec, (captured.stdout + captured.stderr).strip().splitlines()


def test_queue_reports_the_choice_its_reason_and_position(shell, manager):
    said = run(shell, "queue owner/new")

    assert all(part in said for part in ("owner/new:Q4_K_M", "4.0 GB", "Q4_K_M is the first choice.", "position 3"))


def test_queue_passes_on_every_option(shell, manager):
    run(shell, "queue owner/new@v1:Q8_0 --force --with mmproj --no-db --everywhere")

    request = {
        "repo_id": "owner/new",
        "quantization": "Q8_0",
        "revision": "v1",
        "force": True,
        "companions": ("mmproj",),
        "add_to_db": False,
        "everywhere": True,
        "to": None,
        "then": None,
    }
    assert manager.asked == [("queue_smart", (), request)]


def test_queueing_a_model_again_says_that_you_already_have_it_and_not_that_it_downloads(shell, manager):
    there = download("a/b:Q8_0", DownloadStatus.COMPLETED, was_present=True, downloaded_bytes=GB, total_bytes=GB)
    checked = download("a/b:Q6_K", DownloadStatus.DOWNLOADING, downloaded_bytes=GB, total_bytes=GB)
    followed = replace(there, id=DownloadId("a/b", "F16"), then=Then("make", "running"))
    manager.answers["queue_smart"] = lambda repo_id, quantization, **_: SimpleNamespace(
        id=DownloadId(repo_id, quantization)
    )
    manager.snapshot = replace(manager.snapshot, recent_completed=(there, checked, followed))

    assert run(shell, "queue a/b:Q8_0") == "You already have a/b:Q8_0 (1.0 GB)."
    assert "Its command runs now" in run(shell, "queue a/b:F16 --then make")
    assert run(shell, "queue a/b:Q6_K").endswith("All of its data is on the disk and is being verified.")


def test_a_joined_download_that_completes_at_once_is_not_called_queued(shell, manager):
    def join(repo_id, quantization, **_):
        there = download("owner/second:Q8_0", "completed", was_present=True, downloaded_bytes=GB, total_bytes=GB)
        manager.snapshot = replace(manager.snapshot, items=(), recent_completed=(there,))
        return SimpleNamespace(id=DownloadId(repo_id, quantization))

    manager.answers["queue_smart"] = join

    assert run(shell, "queue owner/second:Q8_0") == "You already have owner/second:Q8_0 (1.0 GB)."


def test_queue_joins_an_existing_download(shell, manager):
    said = run(shell, "queue owner/second:Q8_0")

    assert "already in the queue" in said
    assert "position 2" in said


def test_queue_without_start_uses_the_operation_that_does_not_start(shell, manager):
    run(shell, "queue owner/new:Q8_0 --no-start")

    assert manager.asked[0][0] == "queue_download"


def test_a_paused_download_that_is_queued_again_is_answered_with_the_command_that_resumes_it(shell, manager):
    manager.snapshot = snapshot(download("owner/new:Q8_0", DownloadStatus.PAUSED))

    said = run(shell, "queue owner/new:Q8_0 --no-start")

    assert said.endswith(" It is paused. Resume: %gguf resume owner/new:Q8_0")


def test_a_pasted_address_is_queued(shell, manager):
    run(shell, "queue https://huggingface.co/owner/new/tree/main")

    assert asked(manager)[0][1:3] == ("owner/new", None)


def test_a_python_variable_can_give_the_repository(shell, manager):
    shell.user_ns["repo"] = "owner/new"

    run(shell, "queue {repo}")

    assert asked(manager)[0][1] == "owner/new"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("cancel active", ("cancel_download", "owner/active:Q4_K_M", False)),
        ("cancel #2 --discard", ("cancel_download", "owner/second:Q8_0", True)),
        ("cancel --all", ("cancel_all",)),
        ("remove 1", ("remove_from_queue", "owner/first:Q8_0")),
        ("move second top", ("reorder_queue", "owner/second:Q8_0", 1)),
        ("move first down", ("reorder_queue", "owner/first:Q8_0", 2)),
        ("pause active", ("pause", "owner/active:Q4_K_M")),
        ("resume first", ("resume", "owner/first:Q8_0")),
        ("retry failed", ("retry", "owner/failed:Q8_0")),
        ("retry 1", ("retry", "owner/failed:Q8_0")),
        ("retry '#1'", ("retry", "owner/failed:Q8_0")),
        ("retry --all", ("retry", "owner/failed:Q8_0")),
        ("clear-failed", ("clear_failed",)),
        ("clear-failed failed", ("clear_failed", "owner/failed:Q8_0")),
        ("limit 25", ("set_max_queue_size", 25)),
        ("bandwidth 5MB", ("set_bandwidth_limit", 5_000_000)),
        ("bandwidth off  # don't wait --save", ("set_bandwidth_limit", None)),
    ],
)
def test_a_verb_calls_the_manager_and_answers_in_one_or_two_sentences(shell, manager, line, wanted):
    said = run(shell, line)

    assert asked(manager) == [wanted]
    assert is_sentence(said)


@pytest.mark.parametrize("line", ["limit", "bandwidth", "status", "", "help", "models"])
def test_a_read_only_verb_changes_nothing(shell, manager, line):
    assert run(shell, line)
    assert manager.asked == []


def test_status_is_text_and_html_in_one_bundle(shell, manager):
    with capture_output() as captured:
        shell.run_cell("%gguf status").raise_error()

    assert set(captured.outputs[0].data) == {"text/plain", "text/html"}


def test_without_a_kernel_the_panel_is_text(shell, manager):
    assert run(shell, "").splitlines()[0].startswith("1 active")


def test_path_returns_a_value(shell, manager):
    manager.registered = [MODEL]

    shell.run_cell("p = %gguf path a/b").raise_error()

    assert shell.user_ns["p"] == "/models/a/b/b.gguf"


def test_a_preset_names_the_models_that_it_cannot_contain(shell, manager):
    manager.answers["write_preset"] = PresetFile("/models/my models.ini", 2, ("a/b]c:Q8_0",))

    said = run(shell, "path --preset models.ini")

    assert "2 models" in said
    assert "a/b]c:Q8_0" in said
    assert said.endswith("llama-server --models-preset '/models/my models.ini'")


@pytest.mark.parametrize("word", ["#1", "1"])
def test_path_accepts_a_row_of_the_models_list(shell, manager, word):
    manager.registered = [MODEL]

    shell.run_cell(f"p = %gguf path {word}").raise_error()

    assert shell.user_ns["p"] == "/models/a/b/b.gguf"


def test_without_a_list_of_models_a_row_is_that_of_the_list_as_it_would_be_shown(shell, manager):
    manager.registered = [MODEL, VISION]  # the second is newer: models of stores come last

    shell.run_cell("p = %gguf path #1 --for llama-server").raise_error()

    assert "--mmproj" in shell.user_ns["p"]
    assert "a/see" in run(shell, "models").splitlines()[1]


def test_a_filter_without_matches_leaves_the_rows_of_the_list_that_was_shown(shell, manager):
    manager.registered = [MODEL, VISION]
    run(shell, "models b:Q8")
    run(shell, "models --only wrong")

    _error, lines = failure(shell, "path #2")

    assert lines[-1].startswith("ModelNotFoundError: ")


def test_a_row_missing_from_the_models_list_is_refused(shell, manager):
    manager.registered = [MODEL]

    _error, lines = failure(shell, "path #2")

    assert lines[-1].startswith("ModelNotFoundError: ")


def test_a_row_of_a_search_can_be_queued_by_its_number(shell, manager):
    manager.answers["search"] = [
        RepoSummary("x/one-GGUF", 12345, 10, 8_000_000_000, "llama", None, "2025-01-01T00:00:00Z"),
        RepoSummary("x/two-GGUF", None, None, None, None, "manual", None),
    ]
    shown = run(shell, "search one two")

    run(shell, "queue 2")

    assert "8.0 B" in shown
    assert "gated" in shown
    assert asked(manager)[-1][1] == "x/two-GGUF"


def test_a_search_without_results_is_reported(shell, manager):
    manager.answers["search"] = []

    shown = run(shell, "search nothing")

    assert "No repository" in shown
    assert "filters" not in shown


def test_a_search_without_results_names_the_filters_that_may_be_the_cause(shell, manager):
    manager.answers["search"] = []

    shown = run(shell, "search llama --licence gpl")

    assert "filters" in shown


def test_an_imported_folder_is_shown_as_a_path(shell, manager, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    manager.answers["import_folder"] = ImportReport((), ())

    assert run(shell, "import .") == f"No new models in {tmp_path}."


def test_an_imported_folder_is_shown_with_its_variables_replaced(shell, manager, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_MODELS", str(tmp_path))
    manager.answers["import_folder"] = ImportReport((), ())

    assert run(shell, "import '$MY_MODELS'") == f"No new models in {tmp_path}."


def test_the_example_of_a_command_quotes_the_path_because_it_may_contain_spaces(shell, manager):
    assert '"$GGUF_PATH"' in run(shell, "help queue")


# Mistakes and refusals


def test_a_grammar_mistake_is_one_line_and_exactly_a_usage_error(shell, manager):
    error, lines = failure(shell, "queu owner/new")

    assert type(error) is UsageError
    assert lines == ["UsageError: 'queu' is not a verb. Did you mean %gguf queue?"]


def test_a_refusal_is_one_line_with_its_class_and_advice(shell, manager):
    manager.answers["queue_smart"] = QueueFullError("The queue is full. Raise it: %gguf limit 20", max_size=10)

    error, lines = failure(shell, "queue owner/new")

    assert lines == ["QueueFullError: The queue is full. Raise it: %gguf limit 20"]
    assert isinstance(error, QueueFullError)
    assert error.max_size == 10


def test_a_refusal_keeps_its_cause_and_the_original_error_is_unchanged(shell, manager):
    refusal = GatedRepoError("Accept first.", accept_url="https://x/y")
    refusal.__cause__ = OSError("403")
    before = dict(vars(refusal))
    manager.answers["queue_smart"] = refusal

    error, _ = failure(shell, "queue owner/new")

    assert error.__cause__ is refusal.__cause__
    assert vars(refusal) == before


def test_the_original_error_is_unchanged_even_with_custom_exception_pickling(shell, manager, monkeypatch):
    # What tblib does for Dask: a copy then shares its attributes with the original.
    def shared(error):
        return lambda: error, ()

    monkeypatch.setitem(copyreg.dispatch_table, GatedRepoError, shared)
    refusal = manager.answers["queue_smart"] = GatedRepoError("Accept first.", accept_url="https://x/y")
    before = dict(vars(refusal))

    error, lines = failure(shell, "queue owner/new")

    assert lines == ["GatedRepoError: Accept first."]
    assert error.accept_url == "https://x/y"
    assert vars(refusal) == before


def test_an_unknown_download_is_refused_in_one_line_without_a_call(shell, manager):
    _, lines = failure(shell, "cancel owner/unknown")

    assert len(lines) == 1
    assert lines[0].startswith("NotInQueueError: ")
    assert manager.asked == []


@pytest.mark.slow
def test_a_bug_keeps_its_traceback(shell, manager):
    manager.answers["queue_smart"] = ZeroDivisionError("a bug")

    _, lines = failure(shell, "queue owner/new")

    assert len(lines) > 5


def test_one_update_is_counted_in_the_singular(shell, manager):
    found = [ModelUpdate(f"a/b:{label}", label == "Q8_0", None, None, ()) for label in ("Q8_0", "Q4_0")]
    manager.answers["check_updates"] = found

    assert "1 of 2 has an update: %gguf update ID" in run(shell, "updates")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("queue owner/new@v1 --revision v2", "Write either @v1 or --revision v2."),
        ("plan owner/new@v1 --revision v2", "Write either @v1 or --revision v2."),
        ("path --preset models.ini --for ollama", "Write either --for or --preset."),
        ("config --reset", "--reset needs the name of a setting, without a value or --save."),
        ("partials Q4_K_M --queue --all", "Write either TEXT or --all."),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(shell, manager, line, said):
    error, lines = failure(shell, line)

    assert isinstance(error, UsageError)
    assert said in lines[-1]
    assert manager.asked == []


def test_run_now_outside_the_download_hours_says_until_when_it_waits(shell, manager):
    manager.snapshot = snapshot(
        download("owner/first:Q8_0", position=1, notice="waiting until 22:00", notice_kind="hours")
    )

    assert run(shell, "run-now first") == "owner/first:Q8_0 is first in the queue. It is waiting until 22:00."


@pytest.mark.parametrize(("verb", "done"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_download_that_is_being_registered_is_not_said_to_have_stopped(shell, manager, verb, done):
    manager.snapshot = snapshot(download("owner/active:Q4_K_M", DownloadStatus.REGISTERING))

    assert run(shell, f"{verb} active") == f"owner/active:Q4_K_M is already complete, so it was not {done}."


# Waiting and interrupts


def interrupt_once_waiting(manager):
    """Sends this process the signal of the interrupt button once the magic waits for the manager."""

    def send():
        while not manager.asked:
            threading.Event().wait(0.01)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_an_interrupt_while_resolving_cancels_the_request(shell, manager):
    resolving = manager.answers["queue_smart"] = Future()
    thread = interrupt_once_waiting(manager)

    error, lines = failure(shell, "queue owner/slow")
    thread.join()

    assert isinstance(error, KeyboardInterrupt)
    assert [line.partition(":")[0] for line in lines] == ["KeyboardInterrupt"]
    assert resolving.cancelled()


def test_an_interrupt_after_a_request_was_queued_does_not_say_that_it_was_cancelled(shell, manager, monkeypatch):
    def interrupted(_id, _session):
        raise KeyboardInterrupt

    monkeypatch.setattr(get_verbs, "_first_report", interrupted)

    _, lines = failure(shell, "queue owner/new")

    assert lines[-1] == "KeyboardInterrupt: Interrupted. %gguf status shows the queue."
    assert "owner/new:Q4_K_M" in run(shell, "status")


def test_an_interrupted_wait_does_not_affect_the_download(shell, manager):
    manager.answers["wait"] = Future()
    thread = interrupt_once_waiting(manager)

    error, lines = failure(shell, "wait active")
    thread.join()

    assert isinstance(error, KeyboardInterrupt)
    assert lines[-1].startswith("KeyboardInterrupt: ")
    assert asked(manager) == [("wait", "owner/active:Q4_K_M")]


def test_an_interrupt_of_a_lock_that_is_being_released_is_an_interrupt(shell, manager):
    # `Condition.wait` of Python 3.13 can end so, also below ipykernel's output.
    try:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")
    except RuntimeError as ended:
        manager.answers["wait"] = ended

    error, lines = failure(shell, "wait active")

    assert isinstance(error, KeyboardInterrupt)
    assert lines[-1] == "KeyboardInterrupt: Stopped waiting. The downloads continue."


@pytest.mark.parametrize("output", ["show", "print"])
def test_an_interrupt_of_the_output_is_an_interrupt(shell, manager, monkeypatch, output):
    def interrupted(*_):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")

    monkeypatch.setattr(Screen, output, interrupted)

    error, lines = failure(shell, "limit")

    assert isinstance(error, KeyboardInterrupt)
    assert lines[-1] == "KeyboardInterrupt: Interrupted. %gguf status shows the queue."


def test_wait_reports_the_milestones_of_awaited_downloads(shell, manager):
    """And not those of others, which the user did not ask for."""
    done = download("owner/active:Q4_K_M", DownloadStatus.COMPLETED, paths=("/m/a.gguf",), is_verified=True)
    other = download("owner/other:Q4_K_M", DownloadStatus.DOWNLOADING)
    manager.snapshot = replace(manager.snapshot, items=(*manager.snapshot.items, other))
    waiting = manager.answers["wait"] = Future()

    def finish():
        while not manager.asked:
            threading.Event().wait(0.01)
        manager.snapshot = snapshot(recent_completed=(done, replace(other, status=DownloadStatus.COMPLETED)))
        waiting.set_result(None)

    thread = threading.Thread(target=finish)
    thread.start()
    said = run(shell, "wait active")
    thread.join()

    assert "owner/other" not in said
    assert said.splitlines()[-1] == "owner/active:Q4_K_M finished: 4.0 GB, SHA-256 verified. /m/a.gguf"


def test_wait_does_not_wait_for_a_queue_that_was_not_started(shell, manager):
    manager.snapshot = snapshot(FIRST)

    assert (
        run(shell, "wait") == run(shell, "wait first") == "The queue has not been started. Start it: %gguf resume --all"
    )
    assert manager.asked == []


@pytest.mark.parametrize(("items", "said"), [((FIRST,), "Started the queue."), ((), "There is nothing to resume.")])
def test_resuming_all_says_what_it_did_without_a_paused_download(shell, manager, items, said):
    manager.snapshot = snapshot(*items)

    assert run(shell, "resume --all") == said
    assert asked(manager) == [("resume_all",)]


@pytest.mark.parametrize("failures", [1, 2])
def test_waiting_for_all_reports_failures_at_the_end(shell, manager, failures):
    cut = NetworkError("The line was cut.")
    bad = [download(f"owner/bad-{n}:Q8_0", DownloadStatus.FAILED, error=cut, ended_at_s=9.0) for n in range(failures)]
    waiting = manager.answers["join"] = Future()

    def finish():
        while not manager.asked:
            threading.Event().wait(0.01)
        manager.snapshot = snapshot(*bad, FAILED)
        waiting.set_result(None)

    thread = threading.Thread(target=finish)
    thread.start()
    error, lines = failure(shell, "wait")
    thread.join()

    assert isinstance(error, DownloadsFailedError)
    assert error.ids == tuple(str(one.id) for one in bad)
    assert "owner/bad-0:Q8_0: The line was cut." in lines[-1]


def test_an_earlier_failure_does_not_fail_the_wait(shell, manager):
    manager.answers["join"] = Future()
    manager.answers["join"].set_result(None)

    run(shell, "wait")


def test_wait_on_an_idle_queue_is_reported(shell, manager):
    manager.snapshot = snapshot()

    assert run(shell, "wait") == "Nothing is queued or active."


def test_wait_on_an_idle_queue_names_what_has_failed_because_it_may_have_failed_just_before(shell, manager):
    manager.snapshot = snapshot(recent_failures=(FAILED,))

    assert run(shell, "wait") == f"Nothing is queued or active. {FAILED.id} has failed: {FAILED.error}"


def test_an_interactive_wait_updates_one_display(shell, manager):
    shell.kernel = SimpleNamespace(_allow_stdin=True)
    waiting = manager.answers["wait"] = Future()

    def finish():
        while not manager.asked:
            threading.Event().wait(0.01)
        manager.snapshot = replace(snapshot(FIRST, SECOND), version=2)
        waiting.set_result(None)

    thread = threading.Thread(target=finish)
    thread.start()
    with capture_output() as captured:
        shell.run_cell("%gguf wait second").raise_error()
    thread.join()

    assert captured.stdout == ""
    assert [set(output.data) for output in captured.outputs] == [{"text/plain", "text/html"}]
    assert "owner/second:Q8_0" in captured.outputs[0].data["text/plain"]
    assert "owner/first:Q8_0" not in captured.outputs[0].data["text/plain"]


def test_an_awaited_download_that_fails_raises_its_own_error(shell, manager):
    manager.answers["wait"] = NetworkError("The line was cut. %gguf retry goes on.")

    error, lines = failure(shell, "wait active")

    assert isinstance(error, NetworkError)
    assert lines[-1] == "NetworkError: The line was cut. %gguf retry goes on."


def test_wait_also_waits_for_the_command_and_names_its_failure(shell, manager):
    done = download("owner/active:Q4_K_M", DownloadStatus.COMPLETED, ended_at_s=9.0, then=Then("make", "running"))
    failed = replace(done, then=Then("make", "failed", "exit code 2"))
    manager.snapshot = snapshot(recent_completed=(done,))
    manager.answers["join"] = None
    end = threading.Timer(0.3, lambda: manager.tell(snapshot(recent_completed=(failed,))))
    end.start()

    said = run(shell, "wait")

    end.join()
    assert said.splitlines()[-1] == "owner/active:Q4_K_M: The command failed: exit code 2"


def test_a_paused_download_is_not_waited_for(shell, manager):
    manager.snapshot = snapshot(download("owner/rests:Q8_0", DownloadStatus.PAUSED, position=1))

    assert run(shell, "wait rests").endswith("It is paused. Resume: %gguf resume owner/rests:Q8_0")
    assert manager.asked == []


def test_an_error_can_be_printed_in_any_encoding(shell, manager, monkeypatch):
    manager.answers["queue_smart"] = NetworkError("The connection to 模型… was lost.")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    with pytest.raises(NetworkError) as caught:
        shell.run_line_magic("gguf", "queue a/b")

    [line] = caught.value._render_traceback_()
    assert line.encode("latin-1") == b"NetworkError: The connection to ??... was lost."


def test_a_token_on_a_line_is_not_repeated_in_its_error(shell, manager):
    error, lines = failure(shell, "login hf_abcdefghijkl")

    assert isinstance(error, UsageError)
    assert "hf_" not in lines[-1]
    assert "Usage: %gguf login" in lines[-1]
    assert "delete it from the cell, and revoke it" in lines[-1]


def test_a_token_in_an_address_is_not_repeated_in_the_answer_that_the_notebook_stores(shell, manager):
    said = run(shell, "queue https://me:hf_abcdefghijkl@huggingface.co/a/b")

    assert asked(manager)[0][1:3] == ("a/b", None)
    assert "hf_" not in said


@pytest.mark.parametrize("line", ["config max_concurrent = 2", "config max_concurrent=2", "config max_concurrent 2"])
def test_a_setting_is_changed_as_in_the_config_magic_of_ipython(shell, manager, monkeypatch, line):
    monkeypatch.setattr("gglib_nb.settings.SET_HERE", {})

    run(shell, line)

    assert asked(manager) == [("set_max_concurrent", 2)]


def test_download_hours_name_the_time_zone_of_their_clock(shell, manager):
    manager.snapshot = snapshot(download_hours=DailyHours.parse("22-7"))

    assert run(shell, "bandwidth").endswith(f"Downloads run from 22:00 to 07:00 ({time.strftime('%Z')}).")


def test_a_table_is_printed_before_the_question_because_some_hosts_show_only_its_start(shell, manager, monkeypatch):
    questions = []
    manager.answers["prune"] = PrunePlan((ModelUse("a/b:Q8_0", 1024, 0.0),), (), 0, 0)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda question: questions.append(question) or "n")

    assert "a/b:Q8_0" in run(shell, "prune --unused 30d")
    assert questions == ["Delete? [y/N] "]


@pytest.mark.parametrize("error", [EOFError, StdinNotImplementedError])
def test_without_an_answer_nothing_is_deleted(shell, manager, monkeypatch, error):
    def no_answer(_question=""):
        raise error

    manager.registered = [MODEL]
    manager.answers["delete"] = lambda _id, dry_run=False: replace(PLAN, is_dry_run=dry_run)
    shell.kernel = SimpleNamespace(_allow_stdin=None)
    monkeypatch.setattr("builtins.input", no_answer)
    monkeypatch.setattr("gglib_nb.notebook.session.getpass", no_answer)

    assert run(shell, "delete a/b").endswith("\nNothing was deleted.")
    assert run(shell, "login") == "No token was entered; nothing has changed."


def test_an_interrupt_at_the_question_of_a_deletion_says_how_to_see_what_is_left(shell, manager, monkeypatch):
    def interrupted(_question):
        raise KeyboardInterrupt

    manager.registered = [MODEL]
    manager.answers["delete"] = lambda _id, dry_run=False: replace(PLAN, is_dry_run=dry_run)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", interrupted)

    _, lines = failure(shell, "delete a/b")

    assert lines[-1] == "KeyboardInterrupt: Interrupted. %gguf models lists the models that are left."
    assert [keywords for _, _, keywords in manager.asked] == [{"dry_run": True}]


def test_a_wait_for_paused_downloads_only_says_so(shell, manager):
    manager.snapshot = snapshot(download("owner/one:Q8_0", DownloadStatus.PAUSED, position=1))

    assert run(shell, "wait") == "Everything in the queue is paused. Resume: %gguf resume --all"
    assert asked(manager) == []


def test_what_is_complete_or_still_listed_is_not_said_to_be_cancelled_or_restored(shell, manager):
    manager.snapshot = snapshot(download("owner/stored:Q8_0", DownloadStatus.REGISTERING), resolving=("owner/listed",))

    assert run(shell, "cancel --all") == "Cancelled 1 download."
    assert run(shell, "pause --all").startswith("Paused 1 download.")


def test_cancelled_downloads_are_put_back(shell, manager):
    gone = [download(f"owner/gone-{number}:Q8_0", DownloadStatus.CANCELLED) for number in (1, 2)]
    manager.snapshot = snapshot(recent_cancelled=tuple(gone))
    manager.answers["put_back"] = lambda *ids: tuple(range(1, len(ids) + 1))

    run(shell, "undo gone-2")
    assert run(shell, "undo --all") == "Put 2 downloads back into the queue."

    assert asked(manager) == [
        ("put_back", "owner/gone-2:Q8_0"),
        ("put_back", "owner/gone-1:Q8_0", "owner/gone-2:Q8_0"),
    ]


@pytest.mark.parametrize(
    ("line", "verb"),
    [
        ("cancel --all", "cancel"),
        ("pause --all", "pause"),
        ("retry --all", "retry"),
        ("clear-failed", "clear"),
        ("undo --all", "undo"),
    ],
)
def test_with_nothing_to_do_a_verb_says_so(shell, manager, line, verb):
    manager.snapshot = snapshot()
    manager.answers["put_back"] = ()

    assert run(shell, line) == f"There is nothing to {verb}."


def test_one_is_singular(shell, manager):
    assert run(shell, "limit 1") == "Up to 1 download may wait."


# Loading


def test_loading_sends_no_request_and_prints_nothing(shell):
    def never():
        raise AssertionError("a manager was made")

    with capture_output() as captured:
        magic.load(shell, never)

    assert captured.stdout + captured.stderr == ""


def test_unloading_restores_the_previous_state_exactly(shell):
    def before(line):
        return "before"

    shell.register_magic_function(before, magic_name="gguf")
    tables = dict(shell.magics_manager.magics["line"]), dict(shell.magics_manager.registry)
    matchers = list(shell.Completer.custom_matchers)

    magic.load(shell, FakeManager)
    magic.load(shell, FakeManager)
    magic.unload(shell)

    assert (dict(shell.magics_manager.magics["line"]), dict(shell.magics_manager.registry)) == tables
    assert shell.Completer.custom_matchers == matchers


def test_unloading_twice_is_harmless(shell):
    magic.load(shell, FakeManager)

    magic.unload(shell)
    magic.unload(shell)

    assert "gguf" not in shell.magics_manager.magics["line"]


PROJECTOR = replace(FILE, target="/models/a/b/mmproj.gguf", kind="mmproj", size_bytes=512)
VISION = Model(DownloadId("a/see", "Q4_K_M"), "c" * 40, "Q4_K_M", (FILE, PROJECTOR), 2000.0)
PLAN = Deletion("a/b:Q8_0", ("/models/a/b/b.gguf",), 1024, (), is_dry_run=True)


def test_models_is_a_table_with_sizes_and_free_space(shell, manager):
    manager.registered = [MODEL, VISION]

    shown = run(shell, "models")

    assert "a/see:Q4_K_M" in shown
    assert "mmproj" in shown
    assert "2.6 kB in total · 10.7 GB free in /models" in shown.splitlines()[-1]


def test_models_can_be_filtered_and_rows_are_numbered(shell, manager):
    manager.registered = [MODEL, VISION]

    shown = run(shell, "models see")
    shell.run_cell("p = %gguf path #1 --for llama-server").raise_error()

    assert "a/b:Q8_0" not in shown
    assert shell.user_ns["p"] == "llama-server -m /models/a/b/b.gguf --mmproj /models/a/b/mmproj.gguf"


def test_loading_code_is_displayed_as_lines(shell, manager):
    manager.registered = [MODEL]

    with capture_output() as captured:
        shell.run_cell("%gguf path a/b --for ollama").raise_error()

    assert "\nFROM /models/a/b/b.gguf\n" in captured.stdout


def test_a_filter_without_matches_is_reported(shell, manager):
    manager.registered = [MODEL]

    assert is_sentence(run(shell, "models --only wrong"))


def test_forget_removes_a_model_from_the_list(shell, manager):
    manager.registered = [MODEL]

    told = run(shell, "forget a/b")

    assert "To list it again: %gguf import FOLDER" in told
    assert told.endswith("/models/a/b/b.gguf")
    assert asked(manager) == [("forget", "a/b:Q8_0")]


def test_delete_reports_the_freed_space_and_does_nothing_without_a_user(shell, manager):
    manager.registered = [MODEL]
    manager.answers["delete"] = lambda _id, dry_run=False: replace(PLAN, is_dry_run=dry_run)

    said = run(shell, "delete a/b")

    assert said.startswith("a/b:Q8_0: 1 file, 1.0 kB will be freed. Nothing was deleted.")
    assert said.endswith("%gguf delete a/b:Q8_0 --yes")
    assert [keywords for _, _, keywords in manager.asked] == [{"dry_run": True}]


def test_a_deletion_that_frees_nothing_says_why(shell, manager):
    manager.registered = [MODEL]
    manager.answers["delete"] = lambda _id, dry_run=False: replace(PLAN, freed_bytes=0, is_dry_run=dry_run)

    assert run(shell, "delete a/b --yes") == "Deleted a/b:Q8_0: 1 file; 0 B freed. The data is also linked elsewhere."


def test_a_confirmed_delete_is_executed(shell, manager):
    manager.registered = [MODEL]
    manager.answers["delete"] = lambda _id, dry_run=False: replace(PLAN, is_dry_run=dry_run)

    assert run(shell, "delete a/b --yes") == "Deleted a/b:Q8_0: 1 file; 1.0 kB freed."
    assert [keywords for _, _, keywords in manager.asked] == [{"dry_run": True}, {}]


@pytest.mark.parametrize(("word", "said"), [("y", "Deleted a/b:Q8_0"), ("", "Nothing was deleted.")])
def test_on_a_terminal_the_user_is_asked(shell, manager, monkeypatch, word, said):
    manager.registered = [MODEL]
    manager.answers["delete"] = lambda _id, dry_run=False: replace(PLAN, is_dry_run=dry_run)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda _question: word)

    assert run(shell, "delete a/b").splitlines()[1].startswith(said)


def verification(verdict="right", **fields):
    return Verification("a/b:Q8_0", (CheckedFile("/models/a/b/b.gguf", verdict, size_bytes=1024, **fields),))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (verification(), "a/b:Q8_0: 1 file, 1.0 kB, SHA-256 matches."),
        (verification("unstated"), "the Hub gives no SHA-256; a later change will be detected."),
        (verification("wrong", wrong_ranges=((0, 4096),)), "has wrong bytes at 0 to 4,095 (4.1 kB)."),
        (verification("wrong", wrong_ranges=()), "/models/a/b/b.gguf is wrong, at unknown positions."),
        (verification("missing"), "/models/a/b/b.gguf is missing."),
        (verification("unreadable", reason="Permission denied"), "cannot be read (Permission denied)."),
    ],
)
def test_verify_reports_damage_and_its_location(shell, manager, found, said):
    manager.registered = [MODEL]
    manager.answers["verify"] = lambda _id, on_progress: found

    assert said in run(shell, "verify a/b")


def test_a_log_gets_a_line_at_every_quarter_of_a_verification(shell, manager, monkeypatch):
    manager.registered = [MODEL]
    is_shown, write = threading.Event(), progress.write_text

    def write_and_tell(stream, text):
        write(stream, text)
        is_shown.set()

    def verify(_id, on_progress):
        on_progress(WorkProgress("/models/a/b/b.gguf", 512, 1024, id="a/b:Q8_0"))
        manager.waits.set()
        is_shown.wait(30)
        return verification()

    monkeypatch.setattr(progress, "write_text", write_and_tell)
    manager.answers["verify"] = verify

    assert run(shell, "verify a/b").splitlines() == [
        " 50 %  verifying a/b:Q8_0  512 B of 1.0 kB",
        "a/b:Q8_0: 1 file, 1.0 kB, SHA-256 matches.",
    ]


@pytest.mark.parametrize("line", ["verify", "verify a/b --all"])
def test_verify_requires_one_model_or_all(shell, manager, line):
    _error, lines = failure(shell, line)

    assert "%gguf verify ID | %gguf verify --all" in lines[-1]


def test_a_side_panel_reports_a_missing_requirement(shell, manager, monkeypatch):
    monkeypatch.setitem(sys.modules, "sidecar", None)
    shell.kernel = object()

    said = run(shell, "panel --side")

    assert "%pip install sidecar" in said


def test_a_side_panel_is_shown_once_however_often_it_is_requested(shell, manager, monkeypatch):
    done = []

    class Sidecar:
        def __init__(self, *, title):
            done.append(title)

        def __enter__(self):
            return self

        def __exit__(self, *_error):
            return None

        def close(self):
            done.append("closed")

    monkeypatch.setitem(sys.modules, "sidecar", SimpleNamespace(Sidecar=Sidecar))
    shell.kernel = object()

    run(shell, "panel --side")
    run(shell, "panel --side")
    magic.unload(shell)

    assert done == ["Downloads", "closed", "Downloads", "closed"]


def test_all_downloads_are_paused_and_resumed_in_one_line(shell, manager):
    run(shell, "pause --all")
    manager.snapshot = snapshot(replace(FIRST, status=DownloadStatus.PAUSED), SECOND)
    said = run(shell, "resume --all")

    assert [operation for operation, *_ in manager.asked][-2:] == ["pause_all", "resume_all"]
    assert said == "Resumed 1 download."


def test_queueing_a_partly_stored_model_is_not_reported_as_downloading(shell, manager):
    half = download(
        "owner/half:Q8_0",
        DownloadStatus.DOWNLOADING,
        downloaded_bytes=10**9,
        notice="connecting",
        notice_kind="connecting",
    )

    def queue_smart(*_given, **_options):
        manager.snapshot = snapshot(half)
        return SimpleNamespace(id=half.id)

    manager.answers["queue_smart"] = queue_smart

    assert run(shell, "queue owner/half:Q8_0").endswith("1.0 GB of 4.0 GB is already downloaded.")


def test_queueing_a_download_that_fails_at_once_reports_the_reason(shell, manager):
    failed = download(
        "owner/full:Q8_0", DownloadStatus.FAILED, error=StorageError("The disk is full. Free some space.")
    )

    def queue_smart(*_given, **_options):
        manager.snapshot = snapshot(recent_failures=(failed,))
        return SimpleNamespace(id=failed.id)

    manager.answers["queue_smart"] = queue_smart

    said = run(shell, "queue owner/full:Q8_0")
    assert said.startswith("Queued owner/full:Q8_0")
    assert said.endswith("It has failed: The disk is full. Free some space.")


def test_pruning_that_finds_nothing_left_says_that_nothing_was_deleted(shell, manager):
    unused = ModelUse("a/b:Q8_0", 1024, 0.0)
    manager.answers["prune"] = lambda dry_run=False, **_: PrunePlan((unused,) if dry_run else (), (), 0, 0)

    assert run(shell, "prune --unused 30d --yes") == "Nothing was deleted."


def test_a_prune_that_cannot_free_enough_says_why(shell, manager):
    manager.answers["prune"] = PrunePlan((), (), 5 * 10**9, 4 * 10**9)

    assert run(shell, "prune --keep 1GB").startswith("Nothing to delete: these models are in the queue, ")


def test_rows_offered_by_an_error_can_be_queued_by_number(shell, manager):
    manager.answers["queue_smart"] = NoGgufFilesError("None here.", ("owner/made-GGUF", "other/made-GGUF"))
    with pytest.raises(NoGgufFilesError):
        run(shell, "queue owner/base")

    with pytest.raises(NoGgufFilesError):
        run(shell, "queue 2")

    assert manager.asked[-1][2]["repo_id"] == "other/made-GGUF"


PAST = (
    PastDownload(DownloadId("owner/good", "Q8_0"), DownloadStatus.COMPLETED, 4 * 10**9, 50e6, 1000.0, 1080.0),
    PastDownload(
        DownloadId("owner/here", "Q8_0"), DownloadStatus.COMPLETED, 10**9, None, 900.0, 901.0, was_present=True
    ),
    PastDownload(
        DownloadId("owner/bad", "Q4_K_M", "v1"), DownloadStatus.FAILED, None, None, 800.0, 860.0, error="Cut."
    ),
)


def test_history_lists_ended_downloads_with_outcome_size_time_and_rate(shell, manager):
    manager.answers["history"] = list(PAST)

    head, good, pace, here, bad, why, hint = run(shell, "history").splitlines()

    assert head.split() == ["Row", "Ended", "Download", "Outcome", "Size"]
    assert good.split()[3:] == ["owner/good:Q8_0", "completed", "4.0", "GB"]
    assert here.split()[3:] == ["owner/here:Q8_0", "already", "downloaded", "1.0", "GB"]
    assert bad.split()[3:] == ["owner/bad@v1:Q4_K_M", "failed", "—"]
    assert (pace.strip(), why.strip()) == ("Took: 1 min 20 s · Rate: 50.0 MB/s", "Took: 1 min 00 s · Why: Cut.")
    assert hint == "Download one again: %gguf queue ROW. Clear the list: %gguf history --clear"


def test_a_row_of_the_history_is_queued_again_by_its_number(shell, manager):
    manager.answers["history"] = list(PAST)
    run(shell, "history")

    run(shell, "queue 3")

    name, _, request = manager.asked[-1]
    asked = (name, request["repo_id"], request["quantization"], request["revision"])
    assert asked == ("queue_smart", "owner/bad", "Q4_K_M", "v1")


def test_an_empty_history_is_reported(shell, manager):
    manager.answers["history"] = []

    assert run(shell, "history") == "The history is empty."


def test_clearing_an_empty_history_says_that_there_is_nothing_to_clear(shell, manager):
    manager.answers["clear_history"] = 0

    assert run(shell, "history --clear") == "There is nothing to clear."


def test_clearing_the_history_reports_the_count_and_what_is_kept(shell, manager):
    manager.answers["clear_history"] = 1

    assert is_sentence(run(shell, "history --clear"))
    assert asked(manager) == [("clear_history",)]
