"""What a line of `%gguf` can mean: one frozen value for each verb. How a line is read stands in `arguments`."""

from dataclasses import dataclass
from typing import Literal

from gglib_nb.domain.hours import DailyHours
from gglib_nb.domain.model_summary import ModelOrder

SortKey = Literal["downloads", "likes", "modified", "trending"]


@dataclass(frozen=True, slots=True)
class _AboutOne:
    """`reference` is a person's word for a download or a model: an id, a part of one, or its number."""

    reference: str


@dataclass(frozen=True, slots=True)
class _AboutOneOrAll:
    """As `_AboutOne`; None: all of them."""

    reference: str | None


@dataclass(frozen=True, slots=True)
class ShowPanel:
    """`%gguf` alone, and `panel`.

    Attributes:
        side: In JupyterLab's side area, where it stays in sight.
    """

    side: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """The queue as it is now, as text and static HTML."""


@dataclass(frozen=True, slots=True)
class History:
    """What ended, in all kernels.

    Attributes:
        clears: Forget it.
    """

    clears: bool


@dataclass(frozen=True, slots=True)
class Queue:
    """Choose, queue and start.

    Attributes:
        reference: `owner/repo[@revision][:QUANT]`, an address of the Hub, or a row of the last table.
        revision: Branch, tag or commit; None: as in the reference.
        force: Fetch again although it is there.
        companions: Kinds of companion files to fetch along.
        add_to_db: Register the finished model.
        starts: Whether the processor runs.
        everywhere: On a cluster, a copy for every host's own folder.
    """

    reference: str
    revision: str | None
    force: bool
    companions: tuple[str, ...]
    add_to_db: bool
    starts: bool
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Show the variants of a repository; nothing is queued.

    Attributes:
        reference: As in `Queue`.
        revision: As in `Queue`.
        context: Tokens to estimate the memory for; None: the default.
    """

    reference: str
    revision: str | None
    context: int | None


@dataclass(frozen=True, slots=True)
class Search:
    """Find repositories with GGUF files.

    Attributes:
        words: What to look for.
        max_parameters: Only models with no more parameters; None: any.
        sort: Order of the rows.
        limit: Rows at most.
        licence: As the Hub names it; None: any.
        task: As the Hub names it; None: any.
    """

    words: str
    max_parameters: int | None
    sort: SortKey
    limit: int
    licence: str | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop one download; a `discard` deletes its partial files too."""

    reference: str
    discard: bool


@dataclass(frozen=True, slots=True)
class CancelAll:
    """Stop everything that is active or queued."""


@dataclass(frozen=True, slots=True)
class Remove(_AboutOne):
    """Take a pending download out of the queue."""


@dataclass(frozen=True, slots=True)
class Move:
    """Give a pending download another position.

    Attributes:
        reference: Which.
        position: 1-based; 1 is next to run, beyond the end is last. None with a `step`.
        step: Places towards the front (negative) or the end; 0 with a `position`.
    """

    reference: str
    position: int | None
    step: int


@dataclass(frozen=True, slots=True)
class Pause(_AboutOneOrAll):
    """Let a download rest; it keeps its bytes. None: all of them."""


@dataclass(frozen=True, slots=True)
class Resume(_AboutOneOrAll):
    """Let a paused download go on; None: all of them."""


@dataclass(frozen=True, slots=True)
class RunNow(_AboutOne):
    """Run a waiting download now."""


@dataclass(frozen=True, slots=True)
class Retry(_AboutOneOrAll):
    """Queue a failed download again; None: all of them."""


@dataclass(frozen=True, slots=True)
class ClearFailed(_AboutOneOrAll):
    """Take a failed download off the list of failures; None: all of them."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Set how many downloads may wait; None asks."""

    max_queue_size: int | None


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Set the limit of all transfers together.

    Attributes:
        bytes_per_second: None lifts the limit, or leaves it where `asks`.
        asks: Leave the limit as it is.
        hours: The hours in which downloads run; None at any time, or as before where `keeps_hours`.
        keeps_hours: Leave the hours as they are.
    """

    bytes_per_second: int | None
    asks: bool
    hours: DailyHours | None = None
    keeps_hours: bool = True


@dataclass(frozen=True, slots=True)
class Config:
    """Show or change settings.

    Attributes:
        name: Which, as a person wrote it; None shows them all.
        value: Its new value, as a person wrote it; None shows the one there is.
        saves: For every kernel to come as well.
        resets: Take back what was set here or saved.
    """

    name: str | None
    value: str | None
    saves: bool
    resets: bool


@dataclass(frozen=True, slots=True)
class Wait(_AboutOneOrAll):
    """Wait for one download, or until nothing is queued or active where None."""


@dataclass(frozen=True, slots=True)
class Models:
    """List the registered models.

    Attributes:
        text: Those that hold it; empty: all of them.
        order: One of `domain.model_summary.ModelOrder`.
        only: A state, or `update`; empty: any.
    """

    text: str
    order: ModelOrder
    only: str


@dataclass(frozen=True, slots=True)
class ModelPath:
    """Give the path that a program opens.

    Attributes:
        reference: Which model.
        program: Give the lines that load it there instead; None: the path.
    """

    reference: str
    program: str | None


@dataclass(frozen=True, slots=True)
class Verify(_AboutOneOrAll):
    """Hash a model's files anew; None: those of all models."""


@dataclass(frozen=True, slots=True)
class Import:
    """Register the GGUF files of a folder."""

    folder: str


@dataclass(frozen=True, slots=True)
class Updates(_AboutOneOrAll):
    """See what has become of a model on the Hub; None: of all models."""


@dataclass(frozen=True, slots=True)
class Update:
    """Fetch a model's new version.

    Attributes:
        reference: Which model.
        keeps_old: Keep the old version too.
    """

    reference: str
    keeps_old: bool


@dataclass(frozen=True, slots=True)
class Repair(_AboutOne):
    """Fetch what is wrong of a model."""


@dataclass(frozen=True, slots=True)
class Forget(_AboutOne):
    """Take a model off the list; its files stay."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a model's files.

    Attributes:
        reference: Which model.
        is_confirmed: Do not ask.
    """

    reference: str
    is_confirmed: bool


@dataclass(frozen=True, slots=True)
class Partials:
    """List the partial downloads that lie about, go on with some, or delete some.

    Attributes:
        part_of_path: Those whose path holds this text; None: all of them.
        discard: Delete them.
        queue: Queue what goes on with them.
    """

    part_of_path: str | None
    discard: bool
    queue: bool = False


@dataclass(frozen=True, slots=True)
class Help:
    """Explain one verb, or list them all where None."""

    verb: str | None


ModelCommand = Models | ModelPath | Verify | Repair | Import | Updates | Update | Forget | Delete
"""The verbs about models that are here."""

Command = (
    ShowPanel
    | Status
    | History
    | Queue
    | Plan
    | Search
    | Cancel
    | CancelAll
    | Remove
    | Move
    | Pause
    | Resume
    | RunNow
    | Retry
    | ClearFailed
    | Limit
    | Bandwidth
    | Config
    | Wait
    | ModelCommand
    | Partials
    | Help
)
