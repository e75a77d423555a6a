"""What people read about downloads: every sentence, size, rate and list of possible actions, made here and nowhere else.

Pure: values in, values out. The terminal's text, the static HTML and the page all render these structs; none of them
formats a number, knows a status or writes a sentence of its own. Text from outside has no control characters.
"""

import os
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from gglib_nb.domain.download import (
    DownloadStatus,
    ElsewhereDownload,
    HostProgress,
    QueuedDownload,
    QueueRunSummary,
    QueueSnapshot,
    ShardProgress,
    ShardStatus,
)
from gglib_nb.domain.history import PastDownload
from gglib_nb.domain.loading import python_lines
from gglib_nb.domain.printable import printable
from gglib_nb.domain.secrets import redacted
from gglib_nb.errors import GatedRepoError
from gglib_nb.notebook import formats

Mood = Literal["plain", "good", "warn", "bad"]
"""How a text is meant; it is shown as a colour, never by the colour alone."""

_MOST_OPEN_FILES: Final = 6
"""More files than this are seen well enough in the divided bar; their lines would fill the screen."""
_MOST_CHARACTERS: Final = 60  # of a command
_TROUBLE: Final = frozenset({"stalled", "retrying", "waiting", "offline"})
_SAID_WHEN_DONE: Final = frozenset({"reused", "unregistered", "remark"})


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """One piece of the line of facts under a title.

    Attributes:
        text: What is read.
        mood: How it is meant.
        is_live: True only while the kernel answers: a rate, a remaining time. A page without news hides it.
    """

    text: str
    mood: Mood = "plain"
    is_live: bool = False


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that can be done now.

    Attributes:
        id: What the kernel is asked for, and the name of the icon.
        label: A word or two, for a button or a menu.
        aria: The same with its object, for a screen reader; empty where the label says it all.
        confirm: A question to be answered with `yes` before the kernel is asked; empty where none is needed.
        yes: The label of that answer.
        is_worded: The label is shown beside the icon.
        is_primary: It is what most people want here.
        is_off: It is possible for rows like this one, but not now.
    """

    id: str
    label: str
    aria: str = ""
    confirm: str = ""
    yes: str = ""
    is_worded: bool = False
    is_primary: bool = False
    is_off: bool = False


class Bar(msgspec.Struct, frozen=True, omit_defaults=True):
    """The progress of one file.

    Attributes:
        name: File name without its folder.
        status: As in `ShardStatus`, for the look; `state` is what is read.
        state: The same in words.
        amount: How much of how much, in words.
        part: 0 to 1; None unknown.
        percent: The same in words.
        weight: Its size relative to the others; 0 unknown.
        tag: The kind of a companion; empty for a file of the model itself.
        runs: Where its bytes are, as start, end, start, end in steps of `domain.download.BAR_STEPS`; empty where they
            are in order from the start.
        verified: How far from its start it is verified, in the same steps.
    """

    name: str
    status: str
    state: str
    amount: str
    part: float | None
    percent: str
    weight: int
    tag: str = ""
    runs: tuple[int, ...] = ()
    verified: int = 0


class Row(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line of a list: a download, a model, a variant, a repository.

    Attributes:
        id: What the verbs and the kernel take.
        status: For the look: a `DownloadStatus`, a model's state, or empty.
        title: Its name without the owner.
        tag: Its quantization; empty without one.
        origin: Its owner, and its revision where one was asked for.
        name: Title and tag together, as other texts call it.
        position: 1-based among the waiting ones; 0 for all others.
        icon: The icon in front of it; empty where the position is shown.
        measure: The number at its right end: how far it is, or how large.
        lines: Facts, the most important first.
        note: One line that says what happens or why it failed; empty where the facts say it all.
        mood: How the note is meant.
        link: A web page where something has to be done first; empty without one.
        part: How far it is, 0 to 1; None unknown.
        progress: The same in words; empty where it has no bar.
        bars: One for each file, companions last.
        is_open: Its files are shown unless a person closed them.
        reason: Why this variant was chosen; empty where it was asked for by name.
        path: The file that a program opens; empty unless it is here.
        folder: Its folder, with `~` for the home folder.
        code: The lines of Python that load it; empty unless it is here.
        past_id: Its id among the earlier downloads; empty unless it has ended.
        actions: What can be done with it now, in the order of the buttons.
    """

    id: str
    status: str = ""
    title: str = ""
    tag: str = ""
    origin: str = ""
    name: str = ""
    position: int = 0
    icon: str = ""
    measure: str = ""
    lines: tuple[Fact, ...] = ()
    note: str = ""
    mood: Mood = "plain"
    link: str = ""
    part: float | None = None
    progress: str = ""
    bars: tuple[Bar, ...] = ()
    is_open: bool = False
    reason: str = ""
    path: str = ""
    folder: str = ""
    code: str = ""
    past_id: str = ""
    actions: tuple[Action, ...] = ()


class View(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A list with a title.

    Attributes:
        id: Which list.
        title: Its heading; empty without one.
        rows: Ids of its rows, from top to bottom.
        note: A line about the list as a whole.
        actions: What can be done to all of it.
    """

    id: str
    title: str = ""
    rows: tuple[str, ...] = ()
    note: str = ""
    actions: tuple[Action, ...] = ()


class Field(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A limit that a person can set.

    Attributes:
        id: Which limit.
        label: What it is called.
        value: As it is typed; empty where there is no limit.
        hint: An example, shown in the empty field.
        is_number: Whether only digits can be typed.
    """

    id: str
    label: str
    value: str
    hint: str = ""
    is_number: bool = True


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line about the queue as a whole.

    Attributes:
        kind: As in `domain.download.QueueNotice`.
        text: What is read.
        action: What can be done about it; None for nothing.
    """

    kind: str
    text: str
    action: Action | None = None


class Header(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is said of the queue as a whole.

    Attributes:
        counts: How many run, wait and still fit.
        summary: What the last run achieved; empty while one is under way and before the first.
        mood: How that is meant.
        rate: Of all downloads together; empty while nothing runs or it is unknown.
        pace: Remaining time, limit, hours.
        bytes_per_second: The rate as a number, for a graph; None unknown.
        is_busy: Something runs.
        has_work: Something runs or waits.
        actions: What can be done to all downloads.
        fields: The limits.
        notices: Lines about the queue as a whole.
    """

    counts: str
    summary: str = ""
    mood: Mood = "plain"
    rate: str = ""
    pace: tuple[Fact, ...] = ()
    bytes_per_second: float | None = None
    is_busy: bool = False
    has_work: bool = False
    actions: tuple[Action, ...] = ()
    fields: tuple[Field, ...] = ()
    notices: tuple[Notice, ...] = ()


# One download ----------------------------------------------------------------------------------------------------


def download_row(item: QueuedDownload, pending_count: int, active_count: int) -> Row:
    """A download of this queue.

    Args:
        item: As the queue shows it.
        pending_count: How many wait; a row can be moved among them.
        active_count: How many run; a waiting one can take their place.
    """
    title, tag = printable(item.display_name), printable(item.quantization or "")
    name = f"{title} {tag}" if tag else title
    is_done = item.status is DownloadStatus.COMPLETED
    path = printable(item.paths[0]) if is_done and item.paths else ""
    return Row(
        id=str(item.id),
        status=str(item.status.value),
        title=title,
        tag=tag,
        origin=_origin(item),
        name=name,
        position=item.position,
        icon="" if item.status is DownloadStatus.QUEUED else _icon(item),
        measure=_measure(item),
        lines=tuple(fact for fact in _facts(item) if fact.text),
        note=_note(item),
        mood=_note_mood(item),
        link=item.error.accept_url or "" if isinstance(item.error, GatedRepoError) else "",
        part=item.progress,
        progress=_progress(item),
        bars=tuple(_bar(bar) for bar in _files(item)),
        is_open=item.status.is_active and 1 < len(_files(item)) <= _MOST_OPEN_FILES,
        reason=printable(item.reason),
        path=item.paths[0] if path else "",
        folder=tilde_folder(item.paths[0]) if path else "",
        code=python_lines(item.paths[0], _projector(item)) if path else "",
        past_id="" if item.ended_at_s is None else f"{item.id} {item.ended_at_s}",
        actions=tuple(_actions(item, name, pending_count, active_count)),
    )


def resolving_row(text: str) -> Row:
    """A request whose files are still being listed."""
    plain = printable(text)
    return Row(
        id=f"resolving {plain}", status="resolving", title=plain, name=plain, icon="search", note="listing its files"
    )


def elsewhere_row(item: ElsewhereDownload) -> Row:
    """A download of another kernel; it can be looked at only."""
    title, tag = printable(item.display_name), printable(item.id.quantization or "")
    owner = printable(f"left by {item.owner}" if item.is_left else item.owner)
    facts = [Fact(amount(item.downloaded_bytes, item.total_bytes))]
    note = ""
    if item.is_left:
        note = "Its kernel has stopped. Run %gguf to resume it here."
    elif item.bytes_per_second is not None:
        facts += _pace(item.bytes_per_second, item.eta_seconds)
    else:
        note = printable(item.notice or item.status.value)
    name = f"{title} {tag}" if tag else title
    return Row(
        id=f"{item.owner} {item.id}",
        status="stopped" if item.is_left else item.status.value,
        title=title,
        tag=tag,
        origin=owner,
        name=f"{name} in another kernel",
        icon="cancelled" if item.is_left else "downloading",
        measure=formats.percent(item.progress),
        lines=tuple(facts),
        note=note,
        part=item.progress,
        progress=formats.percent(item.progress),
    )


def past_row(item: PastDownload) -> Row:
    """A download that ended, in whatever kernel."""
    moods: dict[str, Mood] = {"completed": "good", "failed": "bad"}
    outcome = "already downloaded" if item.was_present else item.outcome.value
    facts = (
        Fact(outcome, moods.get(item.outcome.value, "plain")),
        Fact(formats.size(item.total_bytes)),
        Fact("" if item.was_present or item.took_s is None else formats.duration(item.took_s)),
        Fact("" if item.bytes_per_second is None else formats.rate(item.bytes_per_second)),
        Fact(minute(item.ended_at_s)),
    )
    title = printable(item.id.repo_id.rpartition("/")[2])
    tag = printable(item.id.quantization or "")
    return Row(
        id=f"{item.id} {item.ended_at_s}",
        status=item.outcome.value,
        title=title,
        tag=tag,
        name=f"{title} {tag}" if tag else title,
        icon=item.outcome.value,
        lines=tuple(fact for fact in facts if fact.text),
        note=printable(item.error),
        mood="bad" if item.error else "plain",
    )


def amount(downloaded_bytes: int, total_bytes: int | None) -> str:
    """How much of how much; a single size before the first byte and once all is here."""
    if downloaded_bytes in (0, total_bytes):
        return formats.size(total_bytes)
    return f"{formats.size(downloaded_bytes)} of {formats.size(total_bytes)}"


def hosts(item: QueuedDownload) -> str:
    """The hosts of a cluster that have it or download it, and how far each is; empty on this machine."""
    if len(item.hosts) < 2 or all(one.is_finished for one in item.hosts):
        return printable(f"on {', '.join(one.host for one in item.hosts)}") if item.hosts else ""
    return printable(", ".join(f"{one.host} {_share(one)}" for one in item.hosts))


def minute(at_s: float) -> str:
    """A Unix time in this machine's time zone, to the minute."""
    return datetime.fromtimestamp(at_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def tilde_folder(path: str) -> str:
    """The folder of a file, with `~` for this user's home folder, as Jupyter's server writes its own."""
    return tilde(os.path.dirname(path))  # noqa: PTH120 - as below


def tilde(folder: str) -> str:
    """A folder with `~` for this user's home folder."""
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib raises without a home
    return f"~{folder.removeprefix(home)}" if f"{folder}/".startswith(f"{home.rstrip('/')}/") else folder


def plural(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _share(one: HostProgress) -> str:
    if one.is_finished:
        return "done"
    if not one.total_bytes:
        return formats.size(one.downloaded_bytes)
    return f"{100 * one.downloaded_bytes // one.total_bytes} %"


def _origin(item: QueuedDownload) -> str:
    owner = item.repo_id.partition("/")[0]
    return printable(owner if item.id.revision is None else f"{owner} @ {item.id.revision}")


def _icon(item: QueuedDownload) -> str:
    return "downloading" if item.status.is_active else item.status.value


def _measure(item: QueuedDownload) -> str:
    if item.status is DownloadStatus.QUEUED and not item.downloaded_bytes:
        return formats.size(item.total_bytes)
    return formats.percent(item.progress) if item.status.is_active or item.status.is_pending else ""


def _pace(bytes_per_second: float | None, eta_seconds: float | None) -> list[Fact]:
    rate = "" if bytes_per_second is None else formats.rate(bytes_per_second)
    left = "" if eta_seconds is None else f"{formats.duration(eta_seconds)} left"
    return [Fact(text, is_live=True) for text in (rate, left) if text]


def _facts(item: QueuedDownload) -> list[Fact]:
    total = formats.size(item.total_bytes)
    here = amount(item.downloaded_bytes, item.total_bytes)
    match item.status:
        case DownloadStatus.DOWNLOADING:
            facts = [Fact(f"{formats.size(item.downloaded_bytes)} of {total}")]
            facts += _pace(item.bytes_per_second, item.eta_seconds)
            facts.append(Fact(_files_done(item)))
        case DownloadStatus.COMPLETED:
            facts = _done_facts(item, total)
        case DownloadStatus.FAILED | DownloadStatus.CANCELLED:
            facts = [Fact(f"{here} kept" if item.downloaded_bytes else total)]
        case DownloadStatus.QUEUED:
            facts = [Fact(here if item.downloaded_bytes else "")]
        case _:
            facts = [Fact(here)]
    where = "" if item.to is None or item.paths else f"to {printable(tilde(item.to))}"
    return [*facts, Fact(hosts(item)), Fact(where), _then(item)]


def _then(item: QueuedDownload) -> Fact:
    """The command that runs once it is complete."""
    if item.then is None:
        return Fact("")
    words: dict[str, str] = {"waiting": "then", "done": "ran"}
    moods: dict[str, Mood] = {"done": "good", "failed": "bad"}
    state = item.then.state
    line = printable(redacted(item.then.text))
    shown = line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 1]}…"
    return Fact(f"{words.get(state, state)}: {shown}", moods.get(state, "plain"))


def _done_facts(item: QueuedDownload, total: str) -> list[Fact]:
    facts = [Fact(total)]
    if item.was_present:
        facts.append(Fact("already downloaded"))
    else:
        if item.took_s is not None:
            facts.append(Fact(formats.duration(item.took_s)))
        if item.bytes_per_second is not None:
            facts.append(Fact(formats.rate(item.bytes_per_second)))
    if item.is_verified is not None:
        facts.append(
            Fact("SHA-256 verified", "good")
            if item.is_verified
            else Fact("not verified: the Hub gives no SHA-256", "warn")
        )
    return facts


def _note(item: QueuedDownload) -> str:
    match item.status:
        case DownloadStatus.FAILED:
            return printable(str(item.error)) if item.error else "It failed for an unknown reason."
        case DownloadStatus.COMPLETED if item.then is not None and item.then.error:
            return printable(redacted(f"The command failed: {item.then.error}"))
        case DownloadStatus.COMPLETED:
            return printable(item.notice or "") if item.notice_kind in _SAID_WHEN_DONE else ""
        case DownloadStatus.DOWNLOADING | DownloadStatus.QUEUED | DownloadStatus.CANCELLED:
            return printable(item.notice or "")
        case _:
            return printable(item.notice or item.status.value)


def _note_mood(item: QueuedDownload) -> Mood:
    if item.status is DownloadStatus.FAILED or (item.then is not None and item.then.error):
        return "bad"
    return "warn" if item.notice_kind in _TROUBLE and item.status.is_active else "plain"


def _files(item: QueuedDownload) -> tuple[ShardProgress, ...]:
    return (*item.shards, *item.companions)


def _files_done(item: QueuedDownload) -> str:
    files = _files(item)
    done = sum(file.status is ShardStatus.FINISHED for file in files)
    return f"{done} of {plural(len(files), 'file')} done" if len(files) > 1 else ""


def _progress(item: QueuedDownload) -> str:
    if item.status is DownloadStatus.COMPLETED or not (item.status.is_active or item.downloaded_bytes):
        return ""
    percent = "unknown" if item.progress is None else formats.percent(item.progress)
    return ", ".join(filter(None, (percent, _files_done(item))))


def _bar(bar: ShardProgress) -> Bar:
    is_done = bar.status is ShardStatus.FINISHED
    part = 1.0 if is_done else file_part(bar)
    return Bar(
        name=printable(bar.path_in_repo.rpartition("/")[2]),
        status=bar.status.value,
        state=bar.status.value,
        amount=formats.size(bar.size_bytes) if is_done else amount(bar.downloaded_bytes, bar.size_bytes),
        part=part,
        percent="unknown" if part is None else formats.percent(part),
        weight=bar.size_bytes or 0,
        tag="" if bar.kind == "shard" else printable(bar.kind),
        runs=bar.arrived_steps,
        verified=bar.verified_steps,
    )


def file_part(bar: ShardProgress) -> float | None:
    """How much of a file is here, 0 to 1; None where its size is unknown."""
    if bar.size_bytes is None:
        return None
    return min(1.0, bar.downloaded_bytes / bar.size_bytes) if bar.size_bytes else 1.0


def _projector(item: QueuedDownload) -> str | None:
    paths = zip(item.companions, item.companion_paths, strict=False)
    return next((path for bar, path in paths if bar.kind == "mmproj"), None)


def _actions(item: QueuedDownload, name: str, pending_count: int, active_count: int) -> list[Action]:
    def action(id_: str, label: str, *, is_worded: bool = False, is_off: bool = False) -> Action:
        return Action(id_, label, f"{label} {name}", is_worded=is_worded, is_off=is_off)

    match item.status:
        case DownloadStatus.QUEUED | DownloadStatus.PAUSED:
            is_first, is_last = item.position <= 1, item.position >= pending_count
            moves = [
                action("top", "Move to top", is_off=is_first),
                action("up", "Move up", is_off=is_first),
                action("down", "Move down", is_off=is_last),
            ]
            run = [action("run_now", "Run now")] if active_count else []
            rest = action("pause", "Pause") if item.status is DownloadStatus.QUEUED else action("resume", "Resume")
            return [*(moves if pending_count > 1 else []), *run, rest, action("remove", "Remove")]
        case DownloadStatus.DOWNLOADING:
            return [action("pause", "Pause"), action("cancel", "Cancel")]
        case DownloadStatus.FINALIZING | DownloadStatus.REGISTERING:
            return [action("cancel", "Cancel")]
        case DownloadStatus.FAILED:
            again = [action("retry", "Retry", is_worded=True)] if item.can_retry else []
            return [*again, action("dismiss", "Dismiss")]
        case DownloadStatus.CANCELLED:
            kept = Action("discard", "Delete partial files", f"Delete the partial files of {name}")
            return [action("undo", "Undo", is_worded=True), *([kept] if item.downloaded_bytes else [])]
        case DownloadStatus.COMPLETED:
            return [*_file_actions(name)] if item.paths else []


def model_actions(name: str) -> tuple[Action, ...]:
    """What can be done with a model that is on this disk."""
    return (Action("loading", "Code", f"Show the code that loads {name}, for each program"), *_file_actions(name))


def _file_actions(name: str) -> tuple[Action, ...]:
    return (
        Action("verify", "Verify", f"Verify {name}"),
        Action("delete", "Delete", f"Delete {name} from the disk"),
    )


# The queue -------------------------------------------------------------------------------------------------------


def header(snapshot: QueueSnapshot) -> Header:
    """What is said of the queue as a whole."""
    is_busy = snapshot.active_count > 0
    is_waiting = any(item.status is DownloadStatus.QUEUED for item in snapshot.items)
    has_ended = snapshot.last_run is not None and not is_busy and not is_waiting
    summary, mood = run_summary(snapshot.last_run) if snapshot.last_run and has_ended else ("", "plain")
    return Header(
        counts=counts(snapshot),
        summary=summary,
        mood=mood,
        rate=formats.rate(snapshot.bytes_per_second) if is_busy and snapshot.bytes_per_second is not None else "",
        pace=tuple(pace(snapshot)),
        bytes_per_second=snapshot.bytes_per_second,
        is_busy=is_busy,
        has_work=bool(snapshot.items or snapshot.resolving),
        actions=tuple(_queue_actions(snapshot)),
        fields=_fields(snapshot),
        notices=tuple(_notice(notice.kind, printable(notice.text)) for notice in snapshot.notices),
    )


def counts(snapshot: QueueSnapshot) -> str:
    """How many run, wait and still fit."""
    free = max(0, snapshot.max_size - snapshot.pending_count)
    return f"{snapshot.active_count} active · {snapshot.pending_count} waiting · {plural(free, 'place')} free"


def pace(snapshot: QueueSnapshot) -> list[Fact]:
    """How long it takes, and what holds it up."""
    facts = []
    # The sum of guesses is one: it is said once one of the downloads says how long it takes.
    if snapshot.eta_seconds is not None and any(item.eta_seconds is not None for item in snapshot.items):
        facts.append(Fact(f"{formats.duration(snapshot.eta_seconds)} left", is_live=True))
    if snapshot.bandwidth_limit_bytes_per_second is not None:
        facts.append(Fact(f"limited to {formats.rate(snapshot.bandwidth_limit_bytes_per_second)}"))
    if snapshot.waits_until is not None:
        facts.append(Fact(f"waiting until {snapshot.waits_until}"))
    return facts


def run_summary(run: QueueRunSummary) -> tuple[str, Mood]:
    """What a run of the queue achieved, and how that is meant."""
    sizes = [item.total_bytes for item in run.items if item.outcome is DownloadStatus.COMPLETED]
    known = sum(size for size in sizes if size is not None)
    is_known = known and None not in sizes and not run.is_truncated
    parts = [f"{plural(run.models_completed, 'model')} complete{f', {formats.size(known)}' if is_known else ''}"]
    others = [
        f"{number} {word}"
        for number, word in ((run.models_failed, "failed"), (run.models_cancelled, "cancelled"))
        if number
    ]
    time = formats.duration(run.ended_at_s - run.started_at_s)
    if run.models_completed:
        return f"Finished in {time}: {', '.join(parts + others)}.", "warn" if run.models_failed else "good"
    if run.models_failed:
        return f"No model completed: {', '.join(others)} after {time}.", "bad"
    return f"Stopped after {time}: {', '.join(others) or 'nothing completed'}.", "warn"


def views(snapshot: QueueSnapshot) -> tuple[View, ...]:
    """The lists of the queue, from top to bottom; empty ones are left out.

    An id is in one list: what it is now comes before what became of it earlier.
    """
    seen: set[str] = set()

    def ids(items: tuple[QueuedDownload, ...]) -> tuple[str, ...]:
        fresh = tuple(dict.fromkeys(str(item.id) for item in items if str(item.id) not in seen))
        seen.update(fresh)
        return fresh

    active = ids(tuple(item for item in snapshot.items if not item.status.is_pending))
    pending = ids(tuple(item for item in snapshot.items if item.status.is_pending))
    waiting = (*pending, *(resolving_row(text).id for text in dict.fromkeys(snapshot.resolving)))
    failed, done = ids(snapshot.recent_failures), ids(snapshot.recent_completed)
    cancelled = ids(snapshot.recent_cancelled)
    can_retry = any(item.can_retry for item in snapshot.recent_failures)
    retry = (Action("retry_all", "Retry all", is_worded=True),) if can_retry else ()
    found = (
        View(id="active", rows=active),
        View(id="pending", title="Up next", rows=waiting),
        View(
            id="failed",
            title="Failed",
            rows=failed,
            actions=(*retry, _clear("failed", "Clear Failed")),
        ),
        View(id="completed", title="Done", rows=done, actions=(_clear("completed", "Clear Done"),)),
        View(
            id="cancelled",
            title="Cancelled",
            rows=cancelled,
            actions=(_clear("cancelled", "Clear Cancelled"),),
        ),
        View(
            id="elsewhere",
            title="In other kernels",
            rows=tuple(dict.fromkeys(f"{item.owner} {item.id}" for item in snapshot.elsewhere)),
        ),
    )
    return tuple(view for view in found if view.rows)


def retry_order(snapshot: QueueSnapshot) -> tuple[QueuedDownload, ...]:
    """The failures that a retry can help, in the order in which they are queued again: the oldest first."""
    return tuple(item for item in reversed(snapshot.recent_failures) if item.can_retry)


def news(before: QueuedDownload | None, item: QueuedDownload) -> str:
    """What a screen reader is told of a change: starts and ends, not progress; empty for nothing."""
    old = None if before is None else before.status
    if old is item.status or (old is None and not item.status.is_active):
        return ""
    name = " ".join(filter(None, (printable(item.display_name), printable(item.quantization or ""))))
    match item.status:
        case DownloadStatus.DOWNLOADING:
            return f"{name} started."
        case DownloadStatus.COMPLETED:
            return f"{name} is complete."
        case DownloadStatus.FAILED:
            return f"{name} failed: {_note(item)}"
        case DownloadStatus.PAUSED:
            return f"{name} is paused."
        case DownloadStatus.QUEUED if old is not None:
            return f"{name} is waiting in the queue again."
        case DownloadStatus.CANCELLED:
            return f"{name} was cancelled."
        case _:
            return ""


def _clear(status: str, aria: str) -> Action:
    return Action(f"clear_{status}", "Clear", aria, is_worded=True)


def _queue_actions(snapshot: QueueSnapshot) -> list[Action]:
    live = snapshot.items
    is_resting = bool(live) and all(item.status is DownloadStatus.PAUSED for item in live)
    number = len(live) + len(snapshot.resolving)
    actions = []
    if len(live) > 1:
        actions.append(Action("resume_all", "Resume all") if is_resting else Action("pause_all", "Pause all"))
    if number:
        question = f"Cancel {plural(number, 'download')}? Downloaded data is kept."
        actions.append(Action("cancel_all", "Cancel all", confirm=question, yes="Yes, cancel all"))
    return actions


def _notice(kind: str, text: str) -> Notice:
    return Notice(kind, text, Action("queue_partials", "Resume them", is_worded=True) if kind == "partials" else None)


def _fields(snapshot: QueueSnapshot) -> tuple[Field, ...]:
    limit, span = snapshot.bandwidth_limit_bytes_per_second, snapshot.download_hours
    return (
        Field(id="max_concurrent", label="Downloads at once", value=str(snapshot.max_concurrent)),
        Field(id="max_size", label="Downloads that may wait", value=str(snapshot.max_size)),
        Field(
            id="bandwidth",
            label="Speed limit in MB/s",
            value="" if limit is None else f"{limit / 1e6:g}",
            hint="none",
        ),
        Field(id="max_connections", label="Connections in total", value=str(snapshot.max_connections)),
        Field(
            id="hours",
            label="Download only between",
            value="" if span is None else str(span),
            hint="22:00-07:00",
            is_number=False,
        ),
    )


PANEL_TEXTS: Final = {
    "label": "GGUF downloads",
    "title": "Downloads",
    "list": "Downloads",
    "models": "Models",
    "limits": "Limits",
    "keep": "Keep",
    "close": "Close",
    "copied": "Copied",
    "copy_path": "Copy the path of {name}",
    "copy_code": "Copy the code that loads {name}",
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
        "The kernel has stopped, and so have its downloads. Downloaded data is kept. To resume them, run %load_ext gglib_nb "
        "and %gguf in the next kernel."
    ),
    "silent": (
        "The kernel has not answered yet, so this may be out of date. A running cell can delay it. "
        "If the kernel was restarted, run the cell again."
    ),
    "slow": "Waiting for the kernel. A running cell can delay it.",
    "unanswered": "The kernel stopped before it answered.",
    "notify": "Notify me when a long download ends",
    "notification": "GGUF downloads",
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
    "earlier": "Earlier",
}
"""All other words of the page, by name; `{name}` is a row's name."""


def no_page_text(at_s: float) -> str:
    """What is said where no page shows the live panel.

    Args:
        at_s: Unix time of the data.
    """
    return (
        f"As of {minute(at_s)}. The live panel did not load here. %gguf wait follows the downloads, %gguf status shows the queue, "
        "%gguf help lists the commands that replace the panel's buttons. For the panel, install anywidget where the notebook "
        "server runs, then reload the page."
    )
