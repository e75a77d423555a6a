"""What crosses between the panel's page and the kernel: the shapes of both directions, and one parser.

Shapes only: what a request does stands in `panel`, how a state looks on the screen in `static/*.js`, whose
typedefs have the same names and fields (a test compares them). Numbers are raw; the page formats them.
No message carries a token. Its length is that of the shapes; both directions stand here so that one test can compare them.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NotRequired, TypedDict, get_args, get_type_hints

from gglib_nb.errors import RequestError


class ShardState(TypedDict):
    """One file's bar. Where its bytes stand is as in `domain.download.ShardProgress`, and old while no view shows it."""

    path: str
    kind: str
    size_bytes: int | None
    downloaded_bytes: int
    status: str
    arrived_steps: list[int]
    verified_steps: int


class ItemState(TypedDict):
    """One download's row. `shards` are the model's files, then its companions; `hosts` is empty on this machine."""

    id: str
    repo_id: str
    name: str
    quantization: str | None
    revision: str | None
    status: str
    position: int
    downloaded_bytes: int
    total_bytes: int | None
    bytes_per_second: float | None
    eta_seconds: float | None
    notice: str | None
    notice_kind: str | None
    error: str | None
    help_url: str | None
    can_retry: bool
    reason: str
    path: str | None
    projector_path: str | None
    is_verified: bool | None
    was_present: bool
    hosts: str
    started_at_s: float | None
    ended_at_s: float | None
    shards: list[ShardState]


class RunState(TypedDict):
    """What the last run came to. `completed_bytes` is None where one size is unknown."""

    started_at_s: float
    ended_at_s: float
    models_completed: int
    models_failed: int
    models_cancelled: int
    completed_bytes: int | None


class NoticeState(TypedDict):
    """A line about the queue as a whole."""

    kind: str
    text: str


class ElsewhereState(TypedDict):
    """A download of another kernel; it can be looked at only."""

    owner: str
    is_left: bool
    id: str
    name: str
    quantization: str | None
    status: str
    downloaded_bytes: int
    total_bytes: int | None
    bytes_per_second: float | None
    eta_seconds: float | None
    notice: str | None


class QueueState(TypedDict):
    """What stands above and below the list of downloads. `waits_until` is set while it is no hour in which downloads run."""

    pending_count: int
    active_count: int
    max_size: int
    max_concurrent: int
    max_connections: int
    bandwidth_limit_bytes_per_second: int | None
    download_hours: str | None
    waits_until: str | None
    bytes_per_second: float | None
    eta_seconds: float | None
    resolving: list[str]
    last_run: RunState | None
    notices: list[NoticeState]
    elsewhere: list[ElsewhereState]


class PanelState(TypedDict):
    """Everything: the `snapshot` trait, and the answer to `sync`.

    `rev` is the queue's own version, `seq` the number of the last delta that is in it.
    """

    rev: int
    seq: int
    queue: QueueState
    order: list[str]
    items: dict[str, ItemState]


BarPatch = tuple[int, int] | tuple[int, int, str] | tuple[int, int, str, int, list[int]]
"""Index of a bar, its bytes; its status where that is another one; where its bytes stand, for a bar that shows it: how far
it is verified and the runs that arrived."""


class ItemPatch(TypedDict):
    """What changed of one row: new values of its fields, and of its bars.

    A row the page has not seen, or whose list of files is another one, comes with all its fields.
    """

    fields: dict[str, Any]
    bars: list[BarPatch]


class Delta(TypedDict):
    """What changed since the delta before; `order` only where it did. Rows not in the order are gone."""

    kind: Literal["delta"]
    rev: int
    seq: int
    queue: dict[str, Any]
    order: NotRequired[list[str]]
    items: dict[str, ItemPatch]


class Reply(TypedDict):
    """The answer every request gets: `result` where it worked, `error` in words where not.

    `alternatives` are repositories that the error names in place of the one asked for.
    """

    kind: Literal["reply"]
    cid: str
    ok: bool
    result: NotRequired[Any]
    error: NotRequired[str]
    alternatives: NotRequired[list[str]]


class VariantChoice(TypedDict):
    """One line of the list of variants; the fields are those of `domain.plan.VariantPlan`."""

    key: str
    label: str | None
    size_bytes: int | None
    bytes_to_go: int | None
    free_bytes_after: int | None
    bits_per_weight: float | None
    file_count: int
    fit: str
    mood: str
    arguments: str
    is_complete: bool
    is_present: bool
    is_queued: bool
    is_recommended: bool
    why: str


class CompanionChoice(TypedDict):
    """A kind of file that can be fetched along, and the size of one of that kind."""

    kind: str
    size_bytes: int | None


class VariantList(TypedDict):
    """The answer to `variants`. `accept_url` is set where terms have to be accepted before anything can be fetched."""

    repo_id: str
    page_url: str | None
    revision: str | None
    free_bytes: int | None
    context_tokens: int | None
    accept_url: str | None
    variants: list[VariantChoice]
    companions: list[CompanionChoice]


class Suggestion(TypedDict):
    """One repository found by `suggest`."""

    repo_id: str
    page_url: str | None
    downloads: int | None
    parameter_count: int | None
    likely_size_bytes: int | None
    fit: str
    is_here: bool
    is_gated: bool
    modified_at: str | None


class ModelItem(TypedDict):
    """One model that is here; the fields are those of `domain.model_summary.ModelSummary`."""

    id: str
    repo_id: str
    quantization: str | None
    revision: str | None
    commit_sha: str | None
    architecture: str | None
    parameter_count: int | None
    context_length: int | None
    size_bytes: int
    file_count: int
    state: str
    verified_at_s: float | None
    checked_at_s: float | None
    has_update: bool | None
    registered_at_s: float
    origin: str
    folder: str
    path: str
    projector_path: str | None


class ModelList(TypedDict):
    """The answer to `models`: the newest first, and the disk: what all of them take, and what is free."""

    models: list[ModelItem]
    models_bytes: int
    free_bytes: int | None
    models_directory: str


class PastItem(TypedDict):
    """One download that ended, in whatever kernel; the fields are those of `domain.history.PastDownload`."""

    id: str
    repo_id: str
    quantization: str | None
    outcome: str
    total_bytes: int | None
    bytes_per_second: float | None
    took_s: float | None
    ended_at_s: float
    was_present: bool
    error: str


class KeptItem(TypedDict):
    """A file that a deletion leaves, and why."""

    path: str
    reason: str


class DeletionReport(TypedDict):
    """The answer to `delete_preview` and `delete_model`; the fields are those of `domain.deletion.Deletion`."""

    id: str
    deleted: list[str]
    freed_bytes: int
    kept: list[KeptItem]
    is_dry_run: bool


class VerifyState(TypedDict):
    """How far a `verify` is, told under its `cid` until it is answered."""

    kind: Literal["verify_progress"]
    cid: str
    id: str
    done_bytes: int
    total_bytes: int


class CheckedItem(TypedDict):
    """What came of one file; the fields are among those of `domain.checking.CheckedFile`."""

    path: str
    verdict: str
    wrong_ranges: list[tuple[int, int]] | None
    reason: str


class VerifyReport(TypedDict):
    """The answer to `verify`, and the same in words."""

    id: str
    is_right: bool
    text: str
    files: list[CheckedItem]


class ModelAnswer(TypedDict):
    """The answer to `repair`, `update` and `check_update` in words; `is_needed`: there is something to mend or to fetch."""

    id: str
    is_needed: bool
    text: str


class LoadingLines(TypedDict):
    """One program of the answer to `loading`, and the lines that load the model into it."""

    program: str
    text: str


class SightRequest(TypedDict):
    """What a person can see of one view: nothing else of the panel has to be told as it moves.

    `rows` are in sight; `mapped` are those of them that show where their files' bytes stand.
    """

    cid: str
    kind: Literal["sight"]
    view: str
    is_shown: bool
    rows: list[str]
    mapped: list[str]


class PlainRequest(TypedDict):
    """A request that is about the whole queue, or about all models."""

    cid: str
    kind: Literal[
        "cancel_all",
        "pause_all",
        "resume_all",
        "retry_all",
        "clear_failed",
        "clear_completed",
        "clear_cancelled",
        "queue_partials",
        "sync",
        "models",
        "history",
        "clear_history",
    ]


class DownloadAction(TypedDict):
    """A request that is about one download."""

    cid: str
    kind: Literal["cancel", "remove", "pause", "resume", "run_now", "retry", "dismiss", "discard"]
    id: str


class MoveRequest(TypedDict):
    """To another place in the queue; 1 is next to run."""

    cid: str
    kind: Literal["move"]
    id: str
    position: int


class QueueRequest(TypedDict):
    """Add a download and run it; `position` is where it shall wait, 1 being next to run."""

    cid: str
    kind: Literal["queue"]
    repo_id: str
    quantization: NotRequired[str | None]
    revision: NotRequired[str | None]
    companions: NotRequired[list[str]]
    position: NotRequired[int]


class VariantsRequest(TypedDict):
    """What does this repository offer? `repo_id` may be the address of its page."""

    cid: str
    kind: Literal["variants"]
    repo_id: str


class SuggestRequest(TypedDict):
    """Which repositories answer to these words? The others narrow that; None and left out is any."""

    cid: str
    kind: Literal["suggest"]
    text: str
    max_parameters: NotRequired[int | None]
    licence: NotRequired[str | None]
    task: NotRequired[str | None]


class LimitRequest(TypedDict):
    """How many downloads may wait."""

    cid: str
    kind: Literal["limit"]
    max_size: int


class BandwidthRequest(TypedDict):
    """How fast all downloads together may be; None lifts the limit."""

    cid: str
    kind: Literal["bandwidth"]
    bytes_per_second: int | None


class ConcurrencyRequest(TypedDict):
    """How many downloads may run at once."""

    cid: str
    kind: Literal["concurrency"]
    max_concurrent: int


class ConnectionsRequest(TypedDict):
    """How many connections all downloads together may hold."""

    cid: str
    kind: Literal["connections"]
    max_connections: int


class HoursRequest(TypedDict):
    """In which hours of the day downloads run, such as `22:00-07:00`; None at any time."""

    cid: str
    kind: Literal["hours"]
    hours: str | None


class ModelAction(TypedDict):
    """A request that is about one model that is here. `loading` asks for the lines that load it, of every program.

    `repair` tells its progress as `verify` does, while it looks for what is wrong.
    """

    cid: str
    kind: Literal["verify", "repair", "check_update", "update", "forget", "delete_preview", "delete_model", "loading"]
    id: str


Request = (
    SightRequest
    | PlainRequest
    | DownloadAction
    | ModelAction
    | MoveRequest
    | QueueRequest
    | VariantsRequest
    | SuggestRequest
    | LimitRequest
    | BandwidthRequest
    | ConcurrencyRequest
    | ConnectionsRequest
    | HoursRequest
)


def plain(label: str | None) -> str | None:
    """A quantization's label as a string and nothing more: marimo's encoder makes an object of a subclass of it."""
    return None if label is None else str(label)


def _hints_by_kind() -> dict[str, dict[str, tuple[Any, bool]]]:
    found: dict[str, dict[str, tuple[Any, bool]]] = {}
    for shape in get_args(Request):
        hints = get_type_hints(shape)
        optional = shape.__optional_keys__
        fields = {name: (hint, name in optional) for name, hint in hints.items() if name != "kind"}
        found |= dict.fromkeys(get_args(hints["kind"]), fields)
    return found


_FIELDS: Final[Mapping[str, Mapping[str, tuple[Any, bool]]]] = _hints_by_kind()


def parse_request(content: object) -> Request:
    """Reads what a page sent.

    Raises:
        RequestError: It is none of the requests, or a field is missing, unknown or of another type.
    """
    if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
        raise RequestError("The panel sent something that is no request. Reload the page.")
    kind = content["kind"]
    if kind not in _FIELDS:
        raise RequestError(f"This kernel does not know the request {kind!r}. Reload the page.")
    fields = _FIELDS[kind]
    wrong = [name for name, (hint, optional) in fields.items() if not _fits(content, name, hint, optional)]
    wrong += [str(name) for name in content if name != "kind" and name not in fields]
    if wrong:
        raise RequestError(f"The request {kind!r} came with a wrong {', '.join(wrong)}. Reload the page.")
    return content  # type: ignore[return-value]  # just checked, field by field


def _fits(content: Mapping[str, object], name: str, hint: type, optional: bool) -> bool:
    if name not in content:
        return optional
    value = content[name]
    if hint == list[str]:
        return isinstance(value, list) and all(isinstance(part, str) for part in value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
