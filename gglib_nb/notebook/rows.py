"""Downloads as rows: every sentence, size, rate and action of a download.

Pure: converts values to structs of `messages`. The terminal's text, the static HTML and the page render these structs;
they format no numbers, have no logic per status and add no sentences. Untrusted text is stripped of control characters.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final

from gglib_nb.domain import units
from gglib_nb.domain.download import DownloadStatus, HostProgress, ShardStatus
from gglib_nb.domain.loading import python_lines
from gglib_nb.domain.names import DownloadId, source_of
from gglib_nb.domain.plan import BAD_FINDINGS
from gglib_nb.domain.snapshot import ElsewhereDownload, QueuedDownload, QueueRunSummary, QueueSnapshot, ShardProgress
from gglib_nb.domain.stored import PastDownload
from gglib_nb.domain.text import printable, redacted
from gglib_nb.errors import GatedRepoError
from gglib_nb.notebook.messages import Action, Bar, Fact, Field, Header, Mood, News, Notice, Row, View

_MOST_CHARACTERS: Final = 60  # of a command
_MOST_OPEN_FILES: Final = 6
"""With more files than this, the divided bar is enough; file lines would fill the screen."""
_LONG_S: Final = 60
"""Shorter downloads end without a notification: the user still remembers them."""
_WARNINGS: Final = frozenset({"stalled", "retrying", "waiting", "offline"})
_SHOWN_WHEN_DONE: Final = frozenset({"reused", "unregistered", "remark"})
_PAUSE: Final = Action("pause", "Pause")
_CANCEL: Final = Action("cancel", "Cancel")
_NOTICE_ACTIONS: Final = {"partials": Action("queue_partials", "Resume", is_worded=True)}
_ENDS: Final[dict[str, Mood]] = {"completed": "good", "done": "good", "failed": "bad"}


def facts(*found: Fact | str) -> tuple[Fact, ...]:
    """The facts that are not empty."""
    every = [Fact(one) if isinstance(one, str) else one for one in found if one]
    return tuple([fact for fact in every if fact.text])


def scan_fact(finding: str) -> Fact:
    """The warning of a finding of the Hub's security scan."""
    if finding in BAD_FINDINGS:
        return Fact(f"{finding}: do not load it", "bad")
    return Fact(f"security scan: {printable(finding)}" if finding else "", "warn")


def scan_warning(name: object, finding: str) -> str:
    """The same as a sentence; empty without a finding."""
    if finding in BAD_FINDINGS:
        return f"The Hub's security scan calls {name} {finding}. Do not load it."
    said = f"The result of the Hub's security scan of {name} is {finding!r}. See its page before you load it."
    return said if finding else ""


def row_of(id_: DownloadId, **fields: Any) -> Row:  # noqa: ANN401 - the fields of a row
    """The row of a download. Its title, tag and name come from the id."""
    title, tag = printable(id_.repo_id.rpartition("/")[2]), printable(id_.quantization or "")
    return Row(**({"id": str(id_), "title": title, "tag": tag, "name": name_of(id_)} | fields))


def name_of(id_: DownloadId) -> str:
    """A download or a model in sentences: the name of its repository, and its quantization."""
    return printable(f"{id_.repo_id.rpartition('/')[2]} {id_.quantization or ''}").rstrip()


# One download ----------------------------------------------------------------------------------------------------


def download_row(item: QueuedDownload, pending_count: int, active_count: int) -> Row:
    """A download of this queue; a waiting one can be moved among the waiting ones, and can replace an active one."""
    status, files = item.status, (*item.shards, *item.companions)
    path = item.paths[0] if status is DownloadStatus.COMPLETED and item.paths else ""
    owner, revision = item.repo_id.partition("/")[0], item.id.revision
    companions = zip(item.companions, item.companion_paths, strict=False)
    projector = next((path for file, path in companions if file.kind == "mmproj"), None)
    is_bad = status is DownloadStatus.FAILED or (item.then is not None and item.then.error)
    is_active, ended = status.is_active, [file.status for file in files].count(ShardStatus.FINISHED)
    done = f"{ended} of {units.plural(len(files), 'file')} done" if len(files) > 1 else ""
    has_bar = is_active or (item.downloaded_bytes and status is not DownloadStatus.COMPLETED)
    is_untouched = status is DownloadStatus.QUEUED and not item.downloaded_bytes
    percent = units.percent(item.progress)
    progress = "unknown" if item.progress is None else percent
    return row_of(
        item.id,
        status=status.value,
        origin=printable(owner if revision is None else f"{owner} @ {revision}"),
        position=item.position,
        icon="" if status is DownloadStatus.QUEUED else "downloading" if is_active else status.value,
        measure=units.size(item.total_bytes) if is_untouched else percent if is_active or status.is_pending else "",
        lines=facts(
            scan_fact(item.scan_finding),
            *_facts(item, done),
            _hosts(item.hosts),
            "" if item.to is None or item.paths else f"to {printable(units.tilde(item.to))}",
            _then(item),
        ),
        note=note(item),
        mood="bad" if is_bad else "warn" if item.notice_kind in _WARNINGS and is_active else "plain",
        link=item.error.accept_url or "" if isinstance(item.error, GatedRepoError) else "",
        part=item.progress,
        progress=", ".join(filter(None, (progress, done))) if has_bar else "",
        bars=tuple(_bar(file, is_active=is_active) for file in files),
        is_open=is_active and 1 < len(files) <= _MOST_OPEN_FILES,
        reason=printable(item.reason),
        path=path,
        folder=units.tilde(str(PurePath(path).parent)) if path else "",
        code=python_lines(path, projector) if path else "",
        past_id="" if item.ended_at_s is None else f"{item.id} {item.ended_at_s}",
        actions=tuple(_actions(item, pending_count, active_count)),
    )


def _elsewhere_row(item: ElsewhereDownload) -> Row:
    """A download of another kernel, without actions."""
    note, pace = printable(item.notice or item.status.value), tuple[Fact, ...]()
    if item.is_left:
        note = "Its kernel has stopped. Run %gguf to resume it here."
    elif item.bytes_per_second is not None:
        note, pace = "", _pace(item.bytes_per_second, item.eta_seconds)
    percent = units.percent(item.progress)
    return row_of(
        item.id,
        id=f"{item.owner} {item.id}",
        status="stopped" if item.is_left else item.status.value,
        origin=printable(f"left by {item.owner}" if item.is_left else item.owner),
        name=f"{name_of(item.id)} in another kernel",
        icon="cancelled" if item.is_left else "downloading",
        measure=percent,
        lines=(Fact(units.amount(item.downloaded_bytes, item.total_bytes)), *pace),
        note=note,
        part=item.progress,
        progress=percent,
    )


def outcome(item: PastDownload) -> Fact:
    """How a download ended."""
    text = "already downloaded" if item.was_present else item.outcome.value
    return Fact(text, _ENDS.get(item.outcome.value, "plain"))


def time_taken(item: PastDownload | QueuedDownload) -> str:
    """The duration of a download; empty if nothing was downloaded."""
    return "" if item.was_present or item.took_s is None else units.duration(item.took_s)


def rate(bytes_per_second: float | None) -> str:
    """A rate; empty if unknown."""
    return "" if bytes_per_second is None else units.rate(bytes_per_second)


def past_row(item: PastDownload) -> Row:
    """A download that ended, in any kernel."""
    return row_of(
        item.id,
        id=f"{item.id} {item.ended_at_s}",
        status=item.outcome.value,
        icon=item.outcome.value,
        lines=facts(
            outcome(item),
            units.size(item.total_bytes),
            time_taken(item),
            rate(item.bytes_per_second),
            units.minute(item.ended_at_s),
        ),
        note=printable(item.error),
        mood="bad" if item.error else "plain",
    )


def _hosts(hosts: tuple[HostProgress, ...]) -> str:
    """The cluster hosts that have the model or download it, with their progress; empty on this machine."""
    if len(hosts) < 2 or all(one.is_finished for one in hosts):
        return printable(f"on {', '.join(one.host for one in hosts)}") if hosts else ""

    def progress(one: HostProgress) -> str:
        done, total = one.downloaded_bytes, one.total_bytes
        return "done" if one.is_finished else units.percent(done / total) if total else units.size(done)

    return printable(", ".join(f"{one.host} {progress(one)}" for one in hosts))


def _then(item: QueuedDownload) -> str | Fact:
    """The command that runs after the download completes."""
    if item.then is None:
        return ""
    state = item.then.state
    line = printable(redacted(item.then.text))
    shown = line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 1]}…"
    word = {"waiting": "then", "done": "ran"}.get(state, state)
    return Fact(f"{word}: {shown}", _ENDS.get(state, "plain"))


def _pace(bytes_per_second: float | None, eta_seconds: float | None) -> tuple[Fact, ...]:
    left = "" if eta_seconds is None else f"{units.duration(eta_seconds)} left"
    return facts(Fact(rate(bytes_per_second), is_live=True), Fact(left, is_live=True))


def _facts(item: QueuedDownload, files_done: str) -> tuple[Fact | str, ...]:
    total = units.size(item.total_bytes)
    source = printable(f"from {', '.join(item.mirrors)}") if item.mirrors else ""
    amount = units.amount(item.downloaded_bytes, item.total_bytes)
    match item.status:
        case DownloadStatus.DOWNLOADING:
            pace = _pace(item.bytes_per_second, item.eta_seconds)
            done = units.size(item.downloaded_bytes)
            return (done if item.total_bytes is None else f"{done} of {total}", *pace, source, files_done)
        case DownloadStatus.COMPLETED:
            unverified = Fact(f"not verified: {source_of(item.repo_id)} gives no SHA-256", "warn")
            verified = {None: Fact(""), True: Fact("SHA-256 verified", "good"), False: unverified}[item.is_verified]
            if item.was_present:
                return (total, "already downloaded", verified)
            return (total, time_taken(item), rate(item.bytes_per_second), source, verified)
        case DownloadStatus.FAILED | DownloadStatus.CANCELLED:
            return (f"{amount} kept" if item.downloaded_bytes else total,)
        case DownloadStatus.QUEUED:
            return (amount if item.downloaded_bytes else "",)
        case _:
            return (amount,)


def note(item: QueuedDownload) -> str:
    """What happens now, or why it failed."""
    match item.status:
        case DownloadStatus.FAILED:
            return printable(str(item.error)) if item.error else "It failed for an unknown reason."
        case DownloadStatus.COMPLETED if item.then is not None and item.then.error:
            return printable(redacted(f"The command failed: {item.then.error}"))
        case DownloadStatus.COMPLETED if item.notice_kind not in _SHOWN_WHEN_DONE:
            return ""
        case DownloadStatus.PAUSED | DownloadStatus.FINALIZING | DownloadStatus.REGISTERING:
            return printable(item.notice or item.status.value)
        case _:
            return printable(item.notice or "")


@lru_cache(maxsize=1024)
def _bar(file: ShardProgress, *, is_active: bool) -> Bar:
    size_bytes, is_done = file.size_bytes, file.status is ShardStatus.FINISHED
    part = None if size_bytes is None and not is_done else 1.0
    if size_bytes and not is_done:
        part = min(1.0, file.downloaded_bytes / size_bytes)
    return Bar(
        name=printable(file.path_in_repo.rpartition("/")[2]),
        status=file.status if is_active or is_done else "",
        amount=units.size(size_bytes) if is_done else units.amount(file.downloaded_bytes, size_bytes),
        part=part,
        percent="unknown" if part is None else units.percent(part),
        weight=size_bytes or 0,
        tag="" if file.kind == "shard" else printable(file.kind),
        runs=file.arrived_steps,
        verified=file.verified_steps,
    )


def _actions(item: QueuedDownload, pending_count: int, active_count: int) -> Iterator[Action]:
    match item.status:
        case DownloadStatus.QUEUED | DownloadStatus.PAUSED:
            yield from _pending_actions(item, pending_count, active_count)
        case DownloadStatus.DOWNLOADING:
            yield from (_PAUSE, _CANCEL)
        case DownloadStatus.FINALIZING | DownloadStatus.REGISTERING:
            yield _CANCEL
        case DownloadStatus.FAILED:
            yield from [Action("retry", "Retry", is_worded=True)] if item.can_retry else []
            yield Action("dismiss", "Dismiss")
        case DownloadStatus.CANCELLED:
            yield Action("undo", "Undo", is_worded=True)
            name, size = name_of(item.id), units.size(item.downloaded_bytes)
            question, label = f"{size} of {name} will be deleted. Delete?", "Delete partial files"
            discard = Action("discard", label, f"Delete the partial files of {name}", question, "Yes, delete")
            yield from [discard] if item.downloaded_bytes else []
        case DownloadStatus.COMPLETED:
            yield from file_actions(name_of(item.id)) if item.paths else []


def _pending_actions(item: QueuedDownload, pending_count: int, active_count: int) -> Iterator[Action]:
    name = name_of(item.id)
    if pending_count > 1:
        is_first, is_last = item.position <= 1, item.position >= pending_count
        yield Action("top", "Move to top", f"Move {name} to the top", is_off=is_first)
        yield Action("up", "Move up", f"Move {name} up", is_off=is_first)
        yield Action("down", "Move down", f"Move {name} down", is_off=is_last)
    if active_count:
        yield Action("run_now", "Run now", f"Run {name} now")
    yield Action("resume", "Resume") if item.status is DownloadStatus.PAUSED else _PAUSE
    yield Action("remove", "Remove")


def file_actions(name: str) -> list[Action]:
    """The actions for the files of a model on this disk."""
    return [Action("verify", "Verify"), Action("delete", "Delete", f"Delete {name} from the disk")]


# The queue -------------------------------------------------------------------------------------------------------


def header(snapshot: QueueSnapshot) -> Header:
    """The whole queue."""
    is_busy = snapshot.active_count > 0
    is_waiting = any(item.status is DownloadStatus.QUEUED for item in snapshot.items)
    summary, mood = _run_summary(None if is_busy or is_waiting else snapshot.last_run)
    free = units.plural(max(0, snapshot.max_size - snapshot.pending_count), "place")
    limit = snapshot.bandwidth_limit_bytes_per_second
    # The remaining time of the queue is a guess until it is known for one of the downloads.
    is_known = any(item.eta_seconds is not None for item in snapshot.items)
    return Header(
        counts=f"{snapshot.active_count} active · {snapshot.pending_count} waiting · {free} free",
        summary=summary,
        mood=mood,
        rate=rate(snapshot.bytes_per_second) if is_busy else "",
        pace=facts(
            *_pace(None, snapshot.eta_seconds if is_known else None),
            "" if limit is None else f"limited to {units.rate(limit)}",
            "" if snapshot.waits_until is None else f"waiting until {snapshot.waits_until}",
        ),
        bytes_per_second=snapshot.bytes_per_second,
        is_busy=is_busy,
        has_work=bool(snapshot.items or snapshot.resolving),
        actions=tuple(_queue_actions(snapshot)),
        fields=tuple(_fields(snapshot)),
        notices=tuple(Notice(one.kind, printable(one.text), _NOTICE_ACTIONS.get(one.kind)) for one in snapshot.notices),
    )


def _run_summary(run: QueueRunSummary | None) -> tuple[str, Mood]:
    """The result of a run of the queue, and its mood."""
    if run is None:
        return "", "plain"
    failed = f"{run.models_failed} failed" if run.models_failed else ""
    cancelled = f"{run.models_cancelled} cancelled" if run.models_cancelled else ""
    others = list(filter(None, (failed, cancelled)))
    time = units.duration(run.ended_at_s - run.started_at_s)
    if run.models_completed:
        sizes = [item.total_bytes for item in run.items if item.status is DownloadStatus.COMPLETED]
        known = sum(size for size in sizes if size is not None)
        size = f", {units.size(known)}" if known and None not in sizes and not run.is_truncated else ""
        parts = [f"{units.plural(run.models_completed, 'model')} complete{size}", *others]
        return f"Finished in {time}: {', '.join(parts)}.", "warn" if failed else "good"
    if failed:
        return f"No model completed: {', '.join(others)} after {time}.", "bad"
    return f"Stopped after {time}: {', '.join(others) or 'nothing completed'}.", "warn"


def rows_of(
    snapshot: QueueSnapshot, before: QueueSnapshot | None = None, known: Mapping[str, Row] = MappingProxyType({})
) -> dict[str, Row]:
    """Every row by id; a known row of a snapshot before is reused if its download is the same object."""
    context = (snapshot.pending_count, snapshot.active_count)
    old = {} if before is None else before.downloads
    # The actions of a waiting download depend on the others.
    is_alike = before is not None and context == (before.pending_count, before.active_count)
    found = {
        id_: known[id_]
        if item is old.get(id_) and (is_alike or not item.status.is_pending)
        else download_row(item, *context)
        for id_, item in snapshot.downloads.items()
    }
    return found | _other_rows(snapshot)


def _other_rows(snapshot: QueueSnapshot) -> dict[str, Row]:
    """Those that are not downloads of this queue: requests whose files are still being listed, and other kernels'."""
    plain = map(printable, snapshot.resolving)
    resolving = (
        Row(id=f"resolving {text}", status="resolving", title=text, name=text, icon="search", note="listing its files")
        for text in plain
    )
    return {row.id: row for row in (*resolving, *map(_elsewhere_row, snapshot.elsewhere))}


def view_of(status: DownloadStatus) -> str:
    """The list that shows a download with this status."""
    return "pending" if status.is_pending else "active" if status.is_active else status.value


def views(snapshot: QueueSnapshot) -> tuple[View, ...]:
    """The lists of the queue, from top to bottom, without empty ones. Each id is in one list."""
    ids: dict[str, list[str]] = {}
    for id_, item in snapshot.downloads.items():
        ids.setdefault(view_of(item.status), []).append(id_)
    for id_, row in _other_rows(snapshot).items():
        ids.setdefault("pending" if row.status == "resolving" else "elsewhere", []).append(id_)
    titles = {"failed": "Failed", "completed": "Done", "cancelled": "Cancelled"}
    actions = {id_: [Action(f"clear_{id_}", "Clear", f"Clear {id_} downloads", is_worded=True)] for id_ in titles}
    if retry_order(snapshot):
        actions["failed"].insert(0, Action("retry_all", "Retry all", "Retry all failed downloads", is_worded=True))
    titles = {"active": "", "pending": "Up next", **titles, "elsewhere": "In other kernels"}
    return tuple(
        View(id=id_, title=title, rows=tuple(ids[id_]), actions=tuple(actions.get(id_, ())))
        for id_, title in titles.items()
        if id_ in ids
    )


def retry_order(snapshot: QueueSnapshot) -> tuple[QueuedDownload, ...]:
    """The failed downloads that can be retried, in the order in which they are queued again: oldest first."""
    return tuple(item for item in reversed(snapshot.recent_failures) if item.can_retry)


_NEWS: Final = {
    DownloadStatus.DOWNLOADING: "{} started.",
    DownloadStatus.COMPLETED: "{} is complete.",
    DownloadStatus.PAUSED: "{} is paused.",
    DownloadStatus.QUEUED: "{} is waiting in the queue again.",
    DownloadStatus.CANCELLED: "{} was cancelled.",
    DownloadStatus.FAILED: "{} failed: {}",
}


def news(before: QueueSnapshot, after: QueueSnapshot) -> Iterator[News]:
    """The announcements for screen readers between two snapshots: starts and ends, no progress."""
    for id_, item in after.downloads.items():
        old, status = before.downloads.get(id_), item.status
        is_changed = status.is_active if old is None else status is not old.status
        if is_changed and status in _NEWS:
            is_long = old is not None and item.took_s is not None and item.took_s >= _LONG_S
            is_end = is_long and status in (DownloadStatus.COMPLETED, DownloadStatus.FAILED)
            yield News(_NEWS[status].format(name_of(item.id), note(item)), is_end=is_end)


def _queue_actions(snapshot: QueueSnapshot) -> Iterator[Action]:
    if len(snapshot.items) > 1:
        is_paused = all(item.status is DownloadStatus.PAUSED for item in snapshot.items)
        yield Action("resume_all", "Resume all") if is_paused else Action("pause_all", "Pause all")
    if number := len(snapshot.items) + len(snapshot.resolving):
        question = f"Cancel {units.plural(number, 'download')}? Downloaded data is kept."
        yield Action("cancel_all", "Cancel all", confirm=question, yes="Yes, cancel all")


def _fields(snapshot: QueueSnapshot) -> Iterator[Field]:
    for name, (label, hint) in LIMITS.items():
        value = getattr(snapshot, "max_size" if name == "max_queue_size" else name)
        text = "" if value is None else str(value)
        if value is not None and name == "bandwidth_limit_bytes_per_second":
            text = units.figure(value / 1e6, 15)
        yield Field(id=name, label=label, value=text, hint=hint, is_number=name != "download_hours")


LIMITS: Final = {
    "max_concurrent": ("Downloads at once", ""),
    "max_queue_size": ("Downloads that may wait", ""),
    "bandwidth_limit_bytes_per_second": ("Speed limit in MB/s", "none"),
    "max_connections": ("Connections in total", ""),
    "download_hours": ("Download only between", "22:00-07:00"),
}
"""The settings that have a field in the panel, its label, and the hint in the empty field."""

PANEL_TEXTS: Final = {
    "label": "GGUF downloads",
    "title": "Downloads",
    "models": "Models",
    "limits": "Limits",
    "no": "No",
    "close": "Close",
    "copied": "Copied",
    "copy_path": "Copy the path of {name}",
    "copy_code": "Copy the code that loads {name}",
    "copy_text": "Copy {name}",
    "copy_command": "Copy the command",
    "folder": "Show the folder of {name} in the file browser",
    "details": "Details of {name}",
    "reorder": "Reorder {name}: drag, or press Alt with an arrow key",
    "row_actions": "Actions for {name}",
    "progress": "Progress of {name}",
    "code": "Code that loads {name}",
    "help_link": "Open its page",
    "last_seen": "last seen: {counts}",
    "stopped": "stopped with the kernel",
    "gone": "The kernel has stopped. This is its last known state. Run the cell again for a live panel.",
    "gone_at_work": (
        "The kernel has stopped, and so have its downloads. Downloaded data is kept. To resume them, run %load_ext "
        "gglib_nb and %gguf in the next kernel."
    ),
    "silent": (
        "The kernel has not answered yet, so this may be out of date. A running cell can delay it. "
        "If the kernel was restarted, run the cell again."
    ),
    "slow": "Waiting for the kernel. A running cell can delay it.",
    "unanswered": "The kernel stopped before it answered.",
    "notify": "Notify me when a long download ends",
    "empty": "Nothing is queued yet",
    "empty_hint": "Enter a repository above, or run this in a cell:",
    "empty_magic": "%gguf queue owner/repo",
    "empty_call": 'await gglib_nb.get_manager().queue_smart("owner/repo")',
    "empty_code": "The first command",
    "field": "Repository on the Hub",
    "field_hint": "owner/repo or words",
    "field_title": "A repository, the link of its page, or words to search for",
    "show": "Show variants",
    "filter": "Filter",
    "filter_title": "Narrow the search",
    "filters": "Filters",
    "found": "Repositories found",
    "card": "Open the page of {name} in a new tab",
    "model_filter": "Part of a name",
    "model_filter_title": "Show only models whose name contains this",
    "model_none": "No model name contains this.",
}
"""All other texts of the page, by key; `{name}` is replaced by a row's name."""


def still_text(at_s: float) -> str:
    """The caption of a static copy of the panel: a saved notebook, or a page without the widget."""
    return f"As of {units.minute(at_s)}. This is a still picture of the panel; it does not update."


def no_page_text(at_s: float) -> str:
    """The caption if no page shows the live panel."""
    return (
        f"As of {units.minute(at_s)}. The live panel did not load here. %gguf wait follows the downloads, %gguf status "
        "shows the queue, %gguf help lists the commands that replace the panel's buttons. For the panel, install "
        "anywidget where the notebook server runs, then reload the page."
    )
