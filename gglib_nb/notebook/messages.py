"""What crosses between the panel's page and the kernel: the structs of both directions, and one parser.

The page sends requests and gets a `Reply` for each; `Changes` and `Progress` come unasked. A request that is sent again with
the same `cid` is answered again and done once. No message carries a token.

Every text in these structs is ready to be shown: made in `rows` and `listings`, in the words of the user, without control
characters. Text in terminals and static HTML is made of the same structs.
"""

from typing import Any, Literal

import msgspec

from gglib_nb.errors import RequestError

Mood = Literal["plain", "good", "warn", "bad"]
"""How a text is meant; shown as a colour, never by the colour alone."""

# Parts of the panel --------------------------------------------------------------------------------------------------


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """One piece of the line of facts under a title."""

    text: str
    mood: Mood = "plain"
    is_live: bool = False  # true only while the kernel answers, such as a rate; a page without news hides it


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that can be done now."""

    id: str  # what the page requests, and the name of the icon
    label: str  # a word or two, for a button or a menu
    aria: str = ""  # the label with its object, for a screen reader; empty where the label is enough
    confirm: str = ""  # a question to be answered with `yes` before the page sends the request
    yes: str = ""  # the label of that answer
    is_worded: bool = False  # the label is shown beside the icon
    is_primary: bool = False  # what most people want here
    is_off: bool = False  # possible for rows like this one, but not now


class Bar(msgspec.Struct, frozen=True, omit_defaults=True):
    """The progress of one file."""

    name: str  # without its folder
    status: str  # as in `ShardStatus`, for the look
    state: str  # the same in words
    amount: str  # how much of how much
    part: float | None  # 0 to 1; None unknown
    percent: str
    weight: int  # its size relative to the others; 0 unknown
    tag: str = ""  # the kind of a companion; empty for a file of the model itself
    runs: tuple[int, ...] = ()  # stored bytes as start, end, start, end in steps of `BAR_STEPS`; empty: from the start
    verified: int = 0  # how far from its start it is verified, in the same steps


class Row(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line of a list: a download, a model, a variant, a repository."""

    id: str  # what the verbs and the kernel take
    status: str = ""  # for the look: a `DownloadStatus`, a model's state, or empty
    title: str = ""  # its name without the owner
    tag: str = ""  # its quantization
    origin: str = ""  # its owner, and its revision if one was requested
    name: str = ""  # title and tag, as other texts call it
    position: int = 0  # 1-based among the waiting ones; 0 for all others
    icon: str = ""  # empty where the position is shown
    measure: str = ""  # the number at its right end: a percentage or a size
    lines: tuple[Fact, ...] = ()  # the most important first
    note: str = ""  # one line: what happens now, or why it failed
    mood: Mood = "plain"  # of the note
    link: str = ""  # a web page where the user has to do something first
    part: float | None = None  # progress, 0 to 1; None unknown
    progress: str = ""  # the same in words; empty for a row without a bar
    bars: tuple[Bar, ...] = ()  # one for each file, companions last
    is_open: bool = False  # its files are shown until the user closes them
    reason: str = ""  # why this variant was chosen; empty if the user named it
    path: str = ""  # the file that a program opens; empty unless it is on this disk
    folder: str = ""  # the folder of that file, with `~` for the home folder
    code: str = ""  # the lines of Python that load it; empty unless it is on this disk
    past_id: str = ""  # its id among the earlier downloads; empty unless it has ended
    actions: tuple[Action, ...] = ()  # in the order of the buttons


class View(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A list with a title."""

    id: str
    title: str = ""
    rows: tuple[str, ...] = ()  # ids, from top to bottom
    note: str = ""  # about the whole list
    actions: tuple[Action, ...] = ()  # for the whole list


class Field(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A limit that the user can set."""

    id: str
    label: str
    value: str  # as it is typed; empty for no limit
    hint: str = ""  # an example, shown in the empty field
    is_number: bool = True  # only digits can be typed


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line about the whole queue."""

    kind: str  # as in `domain.download.QueueNotice`
    text: str
    action: Action | None = None


class Header(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The whole queue."""

    counts: str  # how many run and wait, and how many places are free
    summary: str = ""  # the result of the last run; empty during a run and before the first
    mood: Mood = "plain"  # of the summary
    rate: str = ""  # of all downloads together; empty if unknown or nothing runs
    pace: tuple[Fact, ...] = ()  # remaining time, limit, hours
    bytes_per_second: float | None = None  # the rate as a number, for a graph; None unknown
    is_busy: bool = False  # something runs
    has_work: bool = False  # something runs or waits
    actions: tuple[Action, ...] = ()
    fields: tuple[Field, ...] = ()
    notices: tuple[Notice, ...] = ()


# From the kernel -----------------------------------------------------------------------------------------------------


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A filter of a search."""

    id: str  # the field of `Search` that it fills
    label: str
    hint: str  # shown while it is empty
    choices: tuple[tuple[str, str], ...] = ()  # value and label; none: the user types it


class PanelState(msgspec.Struct, frozen=True):
    """Everything: the widget's `snapshot`, and the answer to `Sync`."""

    seq: int  # of the last `Changes` in it
    header: Header
    views: tuple[View, ...]  # from top to bottom
    rows: dict[str, Row]
    texts: dict[str, str]
    filters: tuple[Filter, ...] = ()


class News(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sentence for a screen reader."""

    text: str
    is_end: bool = False  # a long download has ended: also a notification, if the user wants them


class Changes(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="changes", tag_field="kind"):
    """What is new since the previous message."""

    seq: int  # one more than that of the previous message; a page that misses one requests everything
    header: Header | None = None  # None: unchanged
    views: tuple[View, ...] | None = None  # None: unchanged; rows that are in no view are removed
    rows: tuple[Row, ...] = ()  # every changed row, whole
    news: tuple[News, ...] = ()


class Code(msgspec.Struct, frozen=True):
    """Lines to be copied."""

    title: str
    text: str


class Answer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The result of a request, where the page has to show something."""

    text: str = ""  # beside the button
    mood: Mood = "plain"
    news: str = ""  # for a screen reader
    confirm: Action | None = None  # a question that the user has to answer first
    code: tuple[Code, ...] = ()  # shown below the row
    is_queued: bool = False  # the button has nothing more to do


class Choice(msgspec.Struct, frozen=True):
    """A companion that can be downloaded with any variant."""

    id: str  # its kind
    label: str


class Listing(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A list that the page requested: models, earlier downloads, variants, search results."""

    view: View
    rows: tuple[Row, ...] = ()
    link: str = ""  # its page on the Hub
    warning: str = ""  # what the user has to do before downloading
    warning_link: str = ""
    choices: tuple[Choice, ...] = ()
    revision: str | None = None  # as requested; None is the default branch
    news: str = ""  # for a screen reader


class Reply(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="reply", tag_field="kind"):
    """The answer that every request gets."""

    cid: str
    result: PanelState | Listing | Answer | None = None
    error: str = ""  # why it was refused, in one sentence
    alternatives: tuple[str, ...] = ()  # repositories that the error suggests


class Progress(msgspec.Struct, frozen=True, tag="progress", tag_field="kind"):
    """How far a request is."""

    cid: str
    text: str


# From the page -------------------------------------------------------------------------------------------------------


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    cid: str


class Sync(_Request, frozen=True, tag="sync"):
    """What is new since `seq`? Nothing if it is the last; else everything."""

    seq: int


class SetVisible(_Request, frozen=True, tag="look"):
    """Whether this view is visible. Without a visible view, mere counters are not sent."""

    view: str
    is_shown: bool


class Act(_Request, frozen=True, tag="act"):
    """An action of a row, a list or the whole queue."""

    action: str
    id: str = ""  # the row's or the list's; empty for the queue
    position: int | None = None  # where a dragged row was dropped, 1 is next to run; None for all other actions


class Set(_Request, frozen=True, tag="set"):
    """Sets a limit, as it was typed; empty removes it."""

    id: str  # as in `settings`
    value: str


class ListModels(_Request, frozen=True, tag="models"):
    """Which models are on this disk?"""


class ListEarlier(_Request, frozen=True, tag="earlier"):
    """Which downloads have ended, in this and in other kernels?"""


class Search(_Request, frozen=True, tag="search"):
    """Which repositories match these words? Empty filters match all."""

    text: str
    max_parameters: str = ""
    licence: str = ""
    task: str = ""


class Offer(_Request, frozen=True, tag="offer"):
    """Which variants does this repository have?"""

    repo_id: str  # or the address of its page


class Add(_Request, frozen=True, tag="add"):
    """Queue this variant, with these companions."""

    repo_id: str
    key: str
    revision: str | None = None
    choices: tuple[str, ...] = ()


Request = Sync | SetVisible | Act | Set | ListModels | ListEarlier | Search | Offer | Add


def parse_request(content: object) -> Request:
    """Reads what a page sent.

    Raises:
        RequestError: It is none of the requests, or a field is missing, unknown or of another type.
    """
    try:
        request: Request = msgspec.convert(content, Request)
    except msgspec.ValidationError as error:
        raise RequestError(f"This page and its kernel do not match ({error}). Reload the page.") from None
    return request


def plain(message: msgspec.Struct) -> Any:  # noqa: ANN401 - JSON
    """A message as dicts, lists, strings and numbers and nothing else: not every host encodes messages with JSON."""
    return msgspec.to_builtins(message, str_keys=True)
