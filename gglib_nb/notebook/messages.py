"""The messages between the panel's page and the kernel: the structs of both directions, and one parser.

The page sends requests and gets a `Reply` for each; the kernel sends `Changes` and `Progress` without a request. A
request that is sent again with the same `cid` is executed once and answered again. No message contains a token.

Every text in these structs is formatted for the user by `rows` and `listings`, without control characters. Terminal
text and static HTML are rendered from the same structs.
"""

from typing import Any, Literal

import msgspec

from gglib_nb.errors import RequestError

Mood = Literal["plain", "good", "slow", "warn", "bad"]
"""The tone of a text; shown as a colour, never by colour alone."""

# Parts of the panel --------------------------------------------------------------------------------------------------


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item in the line of facts below a title."""

    text: str
    mood: Mood = "plain"
    is_live: bool = False  # valid only for a moment, such as a rate; hidden without recent messages


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """An action that the user can start now."""

    id: str  # sent in the request, and the name of the icon
    label: str  # a word or two, for a button or a menu
    aria: str = ""  # the label for a screen reader; empty: the label and the name of its row or list
    confirm: str = ""  # a question that the user confirms before the page sends the request
    yes: str = ""  # the label of the confirm button
    is_worded: bool = False  # the label is shown beside the icon
    is_primary: bool = False  # the main action
    is_off: bool = False  # possible for rows like this one, but not now


class Bar(msgspec.Struct, frozen=True, omit_defaults=True):
    """The progress of one file."""

    name: str  # without its folder
    status: str  # a `ShardStatus`
    amount: str  # downloaded and total size
    part: float | None  # 0 to 1; None unknown
    percent: str
    weight: int  # its size relative to the others; 0 unknown
    tag: str = ""  # the kind of a companion; empty for a file of the model itself
    runs: tuple[int, ...] = ()  # stored bytes as start, end, start, end in steps of `BAR_STEPS`; empty: from the start
    verified: int = 0  # verified bytes from the start, in the same steps


class Row(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line of a list: a download, a model, a variant, a repository."""

    id: str  # accepted by the verbs and the kernel
    status: str = ""  # for styling: a `DownloadStatus`, a model's state, or empty
    title: str = ""  # its name without the owner
    tag: str = ""  # its quantization
    origin: str = ""  # its owner, and its revision if one was requested
    name: str = ""  # title and tag, for other texts
    position: int = 0  # 1-based, of a waiting download; 0 for all others
    icon: str = ""  # empty where the position is shown
    measure: str = ""  # the number at its right end: a percentage or a size
    lines: tuple[Fact, ...] = ()  # the most important first
    note: str = ""  # one line: the current step, or the reason of a failure
    mood: Mood = "plain"  # of the note
    link: str = ""  # a web page on which the user must act first
    part: float | None = None  # progress, 0 to 1; None unknown
    progress: str = ""  # the same in words; empty for a row without a bar
    bars: tuple[Bar, ...] = ()  # one for each file, companions last
    is_open: bool = False  # its files are shown until the user closes them
    reason: str = ""  # why this variant was chosen; empty if the user named it
    path: str = ""  # the file that a program opens; empty unless it is on this disk
    folder: str = ""  # the folder of that file, with `~` for the home folder
    code: str = ""  # Python code that loads it; empty unless it is on this disk
    past_id: str = ""  # its id among the earlier downloads; empty unless it has ended
    actions: tuple[Action, ...] = ()  # in the order of the buttons


class View(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A list of the queue."""

    id: str
    title: str = ""
    rows: tuple[str, ...] = ()  # ids, from top to bottom
    actions: tuple[Action, ...] = ()  # for the whole list


class Field(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A limit or a filter that the user can set."""

    id: str
    label: str
    value: str  # as it is typed; empty for none
    hint: str = ""  # shown in the empty field
    is_number: bool = True  # only digits can be typed
    choices: tuple[tuple[str, str], ...] = ()  # value and label; none: the user types it


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line about the whole queue."""

    kind: str  # as in `domain.download.QueueNotice`
    text: str
    action: Action | None = None


class Header(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The whole queue."""

    counts: str  # the numbers of active and waiting downloads and free slots
    summary: str = ""  # the result of the last run; empty during a run and before the first
    mood: Mood = "plain"  # of the summary
    rate: str = ""  # of all downloads together; empty if unknown or nothing runs
    pace: tuple[Fact, ...] = ()  # remaining time, limit, hours
    bytes_per_second: float | None = None  # the rate as a number, for a graph; None unknown
    is_busy: bool = False  # a download is active
    has_work: bool = False  # a download is active or waiting
    actions: tuple[Action, ...] = ()
    fields: tuple[Field, ...] = ()
    notices: tuple[Notice, ...] = ()


# From the kernel -----------------------------------------------------------------------------------------------------


class PanelState(msgspec.Struct, frozen=True):
    """The whole state: the widget's `snapshot`, and the answer to `Sync`."""

    seq: int  # of the last `Changes` included
    header: Header
    views: tuple[View, ...]  # from top to bottom
    rows: dict[str, Row]
    texts: dict[str, str]
    filters: tuple[Field, ...] = ()  # of a search; their ids are fields of `Show`


class News(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sentence for a screen reader."""

    text: str
    is_end: bool = False  # a long download has ended: also a notification, if the user wants them


class Changes(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="changes", tag_field="kind"):
    """The changes since the previous message."""

    seq: int  # one more than in the previous message; after a gap the page requests the whole state
    header: Header | None = None  # None: unchanged
    views: tuple[View, ...] | None = None  # None: unchanged; rows that are in no view are removed
    rows: str = ""  # changed rows, whole, as a JSON array: the encoder of Jupyter's session takes ten times as long
    news: tuple[News, ...] = ()


class Answer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The result of a request that the page shows."""

    text: str = ""  # beside the button
    mood: Mood = "plain"
    news: str = ""  # for a screen reader
    confirm: Action | None = None  # a question that the user has to answer first
    code: tuple[tuple[str, str], ...] = ()  # titles and texts to be copied, shown below the row
    is_queued: bool = False  # the action is completed; its button is disabled


class Listing(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A list that the page requested: models, earlier downloads, variants, search results."""

    title: str = ""
    rows: tuple[Row, ...] = ()  # from top to bottom
    note: str = ""  # about the whole list
    actions: tuple[Action, ...] = ()  # for the whole list
    link: str = ""  # its page on the Hub
    warning: str = ""  # what the user must do before downloading
    warning_link: str = ""
    choices: tuple[Action, ...] = ()  # the companions that can be downloaded with any variant; the id is the kind
    revision: str | None = None  # as requested; None is the default branch
    news: str = ""  # for a screen reader


class Reply(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="reply", tag_field="kind"):
    """The answer that every request gets."""

    cid: str
    result: PanelState | Listing | Answer | None = None
    error: str = ""  # why it was refused, in one sentence
    alternatives: tuple[str, ...] = ()  # repositories that the error suggests


class Progress(msgspec.Struct, frozen=True, tag="progress", tag_field="kind"):
    """The progress of a request."""

    cid: str
    text: str


# From the page -------------------------------------------------------------------------------------------------------


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    cid: str


class Sync(_Request, frozen=True, tag="sync"):
    """Requests the whole state, unless `seq` is the latest."""

    seq: int


class SetVisible(_Request, frozen=True, tag="look"):
    """Reports whether a view is visible. Without a visible view, changes of counters alone are not sent."""

    view: str
    is_shown: bool


class Act(_Request, frozen=True, tag="act"):
    """An action of a row, a list or the whole queue."""

    action: str
    id: str = ""  # the row's or the list's; empty for the queue
    position: int | None = None  # the new position of a dragged row, 1 is next; None for all other actions


class Set(_Request, frozen=True, tag="set"):
    """Sets a limit from the typed text; an empty text removes it."""

    id: str  # as in `settings`
    value: str


class Show(_Request, frozen=True, tag="show"):
    """Requests models, ended downloads of all kernels, variants of a repository, or repositories found by a search."""

    what: Literal["models", "earlier", "variants", "found"]
    text: str = ""  # the repository, or the address of its page; the words of a search
    max_parameters: str = ""  # as the other filters of a search, empty for all
    licence: str = ""
    task: str = ""


class Add(_Request, frozen=True, tag="add"):
    """Queues a variant with these companions."""

    repo_id: str
    key: str
    revision: str | None = None
    choices: tuple[str, ...] = ()


Request = Sync | SetVisible | Act | Set | Show | Add


def parse_request(content: object) -> Request:
    """Parses a message from a page.

    Raises:
        RequestError: The kind is unknown, or a field is missing, unknown or of the wrong type.
    """
    try:
        request: Request = msgspec.convert(content, Request)
    except msgspec.ValidationError as error:
        raise RequestError(f"This page and its kernel do not match ({error}). Reload the page.") from None
    return request


def plain(message: msgspec.Struct) -> Any:  # noqa: ANN401 - JSON
    """A message as plain dicts, lists, strings and numbers: not every host encodes messages as JSON."""
    return msgspec.to_builtins(message, str_keys=True)
