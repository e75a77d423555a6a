"""What crosses between the panel's page and the kernel: the structs of both directions, and one parser.

The page sends requests and gets a `Reply` for each; `Changes` and `Progress` come unasked. Rows, lists and texts are those of
`rows`. A request that is sent again with the same `cid` is answered again and done once. No message carries a token.
"""

from typing import Any

import msgspec

from gglib_nb.errors import RequestError
from gglib_nb.notebook.rows import Action, Header, Mood, Row, View

# From the kernel ---------------------------------------------------------------------------------------------------


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that narrows a search.

    Attributes:
        id: The field of `Search` that it fills.
        label: What it is called.
        hint: What is shown while it is empty.
        choices: Value and label of each choice; none where it is typed.
    """

    id: str
    label: str
    hint: str
    choices: tuple[tuple[str, str], ...] = ()


class PanelState(msgspec.Struct, frozen=True):
    """Everything: the widget's `snapshot`, and the answer to `Sync`.

    Attributes:
        seq: Number of the last `Changes` that is in it.
        header: Of the queue as a whole.
        views: The lists, from top to bottom.
        rows: By id.
        texts: `rows.PANEL_TEXTS`.
        filters: What narrows a search.
    """

    seq: int
    header: Header
    views: tuple[View, ...]
    rows: dict[str, Row]
    texts: dict[str, str]
    filters: tuple[Filter, ...] = ()


class News(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sentence for a screen reader.

    Attributes:
        text: The sentence.
        is_end: A long download has ended: a notification, where a person wants one.
    """

    text: str
    is_end: bool = False


class Changes(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="changes", tag_field="kind"):
    """What is new since the message before.

    Attributes:
        seq: One more than that of the message before; a page that misses one asks for everything.
        header: The new one; None where nothing of it changed.
        views: All lists; None where they are the same. Rows that are in none of them are gone.
        rows: Every row that changed, whole.
        news: For a screen reader.
    """

    seq: int
    header: Header | None = None
    views: tuple[View, ...] | None = None
    rows: tuple[Row, ...] = ()
    news: tuple[News, ...] = ()


class Code(msgspec.Struct, frozen=True):
    """Lines to be copied.

    Attributes:
        title: What they are for.
        text: The lines.
    """

    title: str
    text: str


class Answer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a request achieved, where the page has to say something.

    Attributes:
        text: A sentence beside the button; empty for none.
        mood: How it is meant.
        news: A sentence for a screen reader; empty for none.
        confirm: What has to be confirmed first.
        code: Lines to be shown below the row.
        is_queued: The button that asked has nothing more to do.
    """

    text: str = ""
    mood: Mood = "plain"
    news: str = ""
    confirm: Action | None = None
    code: tuple[Code, ...] = ()
    is_queued: bool = False


class Choice(msgspec.Struct, frozen=True):
    """Something that can be downloaded along with any variant.

    Attributes:
        id: Its kind.
        label: What is read.
    """

    id: str
    label: str


class Listing(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A list that was asked for: models, earlier downloads, variants, repositories that were found.

    Attributes:
        view: The list.
        rows: Its rows, in its order.
        link: Its page on the Hub; empty without one.
        warning: What has to be done before any of it can be downloaded; empty for nothing.
        warning_link: Where.
        choices: What can be downloaded along.
        revision: The revision that was asked for; None is the default branch.
        news: A sentence for a screen reader; empty for none.
    """

    view: View
    rows: tuple[Row, ...] = ()
    link: str = ""
    warning: str = ""
    warning_link: str = ""
    choices: tuple[Choice, ...] = ()
    revision: str | None = None
    news: str = ""


class Reply(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="reply", tag_field="kind"):
    """The answer that every request gets.

    Attributes:
        cid: The request's.
        result: A `PanelState`, `Listing` or `Answer`; None for nothing.
        error: Why it was refused, in one sentence; empty where it was done.
        alternatives: Repositories that the error suggests.
    """

    cid: str
    result: PanelState | Listing | Answer | None = None
    error: str = ""
    alternatives: tuple[str, ...] = ()


class Progress(msgspec.Struct, frozen=True, tag="progress", tag_field="kind"):
    """How far a request is.

    Attributes:
        cid: The request's.
        text: A sentence.
    """

    cid: str
    text: str


# From the page -----------------------------------------------------------------------------------------------------


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    cid: str


class Sync(_Request, frozen=True, tag="sync"):
    """What is new since `seq`? Nothing where it is the last; else everything."""

    seq: int


class Look(_Request, frozen=True, tag="look"):
    """Whether a person can see this view now. Without any such view, mere counters are not sent."""

    view: str
    is_shown: bool


class Act(_Request, frozen=True, tag="act"):
    """An action of a row, a list or the whole queue.

    Attributes:
        action: Its id.
        id: The row's or the list's; empty for the queue.
        position: Where a dragged row was dropped, 1 is next to run; None for all other actions.
    """

    action: str
    id: str = ""
    position: int | None = None


class Set(_Request, frozen=True, tag="set"):
    """A limit, as it was typed; empty lifts it."""

    id: str
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
    """Which variants does this repository have? `repo_id` may be the address of its page."""

    repo_id: str


class Add(_Request, frozen=True, tag="add"):
    """Queue this variant, and download these along."""

    repo_id: str
    key: str
    revision: str | None = None
    choices: tuple[str, ...] = ()


Request = Sync | Look | Act | Set | ListModels | ListEarlier | Search | Offer | Add


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
