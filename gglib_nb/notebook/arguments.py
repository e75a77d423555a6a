"""The grammar of `%gguf`: a line in, one frozen value out, or one line that says how to write it.

Knows no IPython, no manager and no queue: what a reference such as `#2` names is looked up in `targets`.
Its length is the table of verbs: a line of usage, a parser and a value for each of them, side by side.
"""

import argparse
import difflib
import re
import shlex
from collections.abc import Callable
from types import SimpleNamespace
from typing import Final, NoReturn, get_args

from typing_extensions import override

from gglib_nb.domain.companions import COMPANION_KINDS
from gglib_nb.domain.hours import DailyHours
from gglib_nb.domain.printable import printable
from gglib_nb.domain.units import UNLIMITED, parse_bytes
from gglib_nb.errors import InvalidConfigError, RequestError
from gglib_nb.notebook.commands import (
    Bandwidth,
    Cancel,
    CancelAll,
    ClearFailed,
    Command,
    Config,
    Help,
    History,
    Limit,
    Move,
    Partials,
    Pause,
    Plan,
    Queue,
    Remove,
    Resume,
    Retry,
    RunNow,
    Search,
    ShowPanel,
    SortKey,
    Status,
    Wait,
)
from gglib_nb.notebook.grammar import GrammarError, Verb, about, reference
from gglib_nb.notebook.model_grammar import MODEL_VERBS

# Any place beyond the end is the last one: the queue clamps it.
_LAST_PLACE: Final = 1_000_000
_OPTION: Final = re.compile(r"--[a-z-]+")
_PARAMETERS: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([mbt])", re.IGNORECASE)


class _Parser(argparse.ArgumentParser):
    """One verb's arguments; a mistake raises instead of ending the process."""

    @override
    def error(self, message: str) -> NoReturn:
        raise GrammarError(message)


def parse(line: str) -> Command:
    """Reads what follows `%gguf`.

    Raises:
        GrammarError: It cannot be read; the text says how to write it.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise GrammarError("A quotation mark is not closed.") from error
    if not words:
        return ShowPanel()
    name, *rest = words
    if name in ("-h", "--help"):
        return Help(None)
    if name not in VERBS:
        raise GrammarError(_unknown_verb(name))
    return Help(name) if {"-h", "--help"} & set(rest) else _parse_verb(name, rest)


def _parse_verb(name: str, words: list[str]) -> Command:
    verb = VERBS[name]
    parser = _Parser(prog=f"%gguf {name}", add_help=False, allow_abbrev=False)
    verb.declare(parser)
    try:
        return verb.build(parser.parse_args(words, SimpleNamespace()))
    except GrammarError as error:
        raise GrammarError(f"{_sentence(str(error))} Write: %gguf {verb.usage}") from error


def _sentence(text: str) -> str:
    ended = text if text.endswith("?") else text.rstrip(".") + "."
    return printable(ended[:1].upper() + ended[1:])


def _unknown_verb(name: str) -> str:
    if (meant := _OTHER_WORDS.get(name.lower())) is not None:
        return f"{name!r} is not a verb. Write: {meant}"
    near = difflib.get_close_matches(name.lower(), VERBS, n=2, cutoff=0.5)
    if "/" in name:
        return f"{name!r} is not a verb. To download it, write: %gguf queue {name}"
    if near:
        return f"{name!r} is not a verb. Did you mean {' or '.join(f'%gguf {each}' for each in near)}?"
    return f"{name!r} is not a verb. %gguf queue owner/repo downloads a model; %gguf help lists all verbs."


def parse_amount(text: str, bare_unit: str = "") -> int:
    """Bytes of `5MB`, `1.5 GiB`, `800k`, as `gglib_nb.domain.units` reads them.

    Raises:
        GrammarError: It is not such a number, or it is zero.
    """
    try:
        return parse_bytes(text, bare_unit)
    except RequestError as error:
        raise GrammarError(str(error)) from error


def parse_rate(text: str) -> int:
    """Bytes per second of `5MB`, `1.5 GiB/s` or `5`: a bare number is MB/s, as in the panel.

    Raises:
        GrammarError: It is not such a number, or it is zero.
    """
    return parse_amount(text, "MB")


def read_hours(text: str) -> DailyHours | None:
    """Hours of the day of `22:00-7:00`; None for `off`.

    Raises:
        GrammarError: They are none.
    """
    try:
        return None if text.strip().lower() in UNLIMITED else DailyHours.parse(text)
    except InvalidConfigError as error:
        raise GrammarError(str(error)) from error


def parse_parameters(text: str) -> int:
    """Parameters of `8B`, `1.5b`, `500M`.

    Raises:
        GrammarError: It is no such number, or zero.
    """
    found = _PARAMETERS.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise GrammarError(f"{text!r} is no number of parameters. Write one such as 8B or 500M")
    return int(float(found[1]) * {"m": 10**6, "b": 10**9, "t": 10**12}[found[2].lower()])


def _count(text: str) -> int:
    number = {"k": 1024}.get(text[-1:].lower(), 1)
    digits = text[:-1] if number > 1 else text
    if not (digits.isascii() and digits.isdecimal() and int(digits)):
        raise GrammarError(f"{text!r} is not a whole number from 1 on")
    return int(digits) * number


def _typed(read: Callable[[str], int]) -> Callable[[str], int]:
    """Lets argparse show a reader's own message instead of one about its type."""

    def reader(text: str) -> int:
        try:
            return read(text)
        except GrammarError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return reader


def _nothing(_: argparse.ArgumentParser) -> None:
    return


def _declare_queue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REPO[:QUANT]")
    parser.add_argument("--revision", metavar="REVISION")
    parser.add_argument("--force", action="store_true")
    parser.add_argument(
        "--with", dest="companions", metavar="KIND", action="append", choices=COMPANION_KINDS, default=[]
    )
    parser.add_argument("--no-db", dest="add_to_db", action="store_false")
    parser.add_argument("--no-start", dest="starts", action="store_false")
    parser.add_argument("--everywhere", action="store_true")


def _build_queue(given: SimpleNamespace) -> Command:
    kinds = tuple(dict.fromkeys(given.companions))
    return Queue(given.reference, given.revision, given.force, kinds, given.add_to_db, given.starts, given.everywhere)


def _declare_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REPO[:QUANT]")
    parser.add_argument("--revision", metavar="REVISION")
    parser.add_argument("--context", metavar="TOKENS", type=_typed(_count))


def _declare_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="WORDS", nargs="+")
    parser.add_argument("--max-size", metavar="PARAMETERS", type=_typed(parse_parameters))
    parser.add_argument("--licence", metavar="LICENCE")
    parser.add_argument("--task", metavar="TASK")
    parser.add_argument("--sort", choices=get_args(SortKey), default="downloads")
    parser.add_argument("--limit", metavar="ROWS", type=_typed(_count), default=20)


def _declare_cancel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="ID", nargs="?")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--discard", action="store_true")


def _build_cancel(given: SimpleNamespace) -> Command:
    if given.all and given.reference is None and not given.discard:
        return CancelAll()
    if given.all and given.discard and given.reference is None:
        raise GrammarError("--discard deletes the bytes of one download; name it")
    if given.all or given.reference is None:
        raise GrammarError("name one download, or write --all")
    return Cancel(given.reference, given.discard)


def _declare_move(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="ID")
    parser.add_argument("position", metavar="POSITION")


def _build_move(given: SimpleNamespace) -> Command:
    word = given.position.lower()
    if word in ("up", "down"):
        return Move(given.reference, None, -1 if word == "up" else 1)
    places = {"top": 1, "last": _LAST_PLACE}
    return Move(given.reference, places.get(word) or _count(word.removeprefix("#")), 0)


def _declare_retry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="ID", nargs="?")
    parser.add_argument("--all", action="store_true")


def _declare_panel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--side", action="store_true")


def _declare_history(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clear", action="store_true")


def _declare_one_or_all(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="ID", nargs="?")
    parser.add_argument("--all", action="store_true")


def _one_or_all(given: SimpleNamespace) -> str | None:
    if given.all == (given.reference is not None):
        raise GrammarError("name one download, or write --all")
    reference: str | None = given.reference
    return reference


def _build_pause(given: SimpleNamespace) -> Command:
    return Pause(_one_or_all(given))


def _build_resume(given: SimpleNamespace) -> Command:
    return Resume(_one_or_all(given))


def _build_retry(given: SimpleNamespace) -> Command:
    if given.all == (given.reference is not None):
        raise GrammarError("name one download, or write --all")
    return Retry(given.reference)


def _declare_partials(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part_of_path", metavar="TEXT", nargs="?")
    parser.add_argument("--queue", action="store_true")
    parser.add_argument("--discard", action="store_true")
    parser.add_argument("--all", action="store_true")


def _build_partials(given: SimpleNamespace) -> Command:
    if given.queue and (given.discard or given.all):
        raise GrammarError("--queue goes on with them, --discard deletes them: say one")
    if given.discard and given.all == (given.part_of_path is not None):
        raise GrammarError("say which to delete: a part of their path, or --all")
    if given.all and not given.discard:
        raise GrammarError("--all goes with --discard; without both, all are listed")
    return Partials(given.part_of_path, given.discard, given.queue)


def _declare_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", metavar="N", nargs="?", type=_typed(_count))


def _declare_bandwidth(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rate", metavar="RATE", nargs="*")
    parser.add_argument("--hours", metavar="HOURS")


def _build_bandwidth(given: SimpleNamespace) -> Command:
    text = " ".join(given.rate).lower()
    rate = None if text in UNLIMITED or not text else parse_rate(text)
    hours = None if given.hours is None else read_hours(given.hours)
    return Bandwidth(rate, asks=not text, hours=hours, keeps_hours=given.hours is None)


def _declare_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="NAME VALUE", nargs="*")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--reset", action="store_true")


def _build_config(given: SimpleNamespace) -> Command:
    name, value = next(iter(given.words), None), " ".join(given.words[1:]) or None
    if given.reset and (name is None or value or given.save):
        raise GrammarError("--reset goes with the name of a setting alone")
    if given.save and value is None:
        raise GrammarError("--save goes with the name of a setting and its value")
    return Config(name, value, given.save, given.reset)


def _build_help(given: SimpleNamespace) -> Command:
    if given.reference is not None and given.reference not in VERBS:
        raise GrammarError(_unknown_verb(given.reference))
    return Help(given.reference)


def _build_wait(given: SimpleNamespace) -> Command:
    return Wait(given.reference)


_IDS: Final = "ID is an id as the queue shows it, a part of it that only one has, or #2 for the second in the queue."

# What people type who come from a shell or another downloader, and the line that does it.
_OTHER_WORDS: Final = {
    "list": "%gguf status for the queue, or %gguf models for what is here",
    "ls": "%gguf status for the queue, or %gguf models for what is here",
    "rm": "%gguf cancel ID for a download, %gguf delete ID for a model, or %gguf partials --discard TEXT for what is left of one",
    "stop": "%gguf cancel ID, or %gguf pause ID to go on later",
    "start": "%gguf resume ID, or %gguf queue owner/repo",
    "download": "%gguf queue owner/repo",
    "get": "%gguf queue owner/repo",
    "pull": "%gguf queue owner/repo",
}

VERBS: Final[dict[str, Verb]] = {
    "queue": Verb(
        "queue REPO[:QUANT] [--revision REVISION] [--force] [--with KIND] [--no-db] [--no-start] [--everywhere]",
        "Choose a variant, queue it and start.",
        _declare_queue,
        _build_queue,
        "repository",
        (
            "REPO[:QUANT] is owner/name, an address of the Hub, or the number of a row of the last search or plan.",
            "QUANT is a quantization in any case, or a file name. Without it a rule chooses, and the line says why.",
            "--force fetches again although the file is here.",
            f"--with fetches a companion along: {', '.join(COMPANION_KINDS)}.",
            "--no-db leaves the model out of %gguf models. --no-start queues without starting.",
            "--everywhere, on a Dask cluster, fetches a copy for every host's own folder.",
        ),
    ),
    "plan": Verb(
        "plan REPO[:QUANT] [--revision REVISION] [--context TOKENS]",
        "Show the variants: size, what is here, free disk, fit in memory. Nothing is queued.",
        _declare_plan,
        lambda given: Plan(given.reference, given.revision, given.context),
        "repository",
        ("--context is the number of tokens to estimate the memory for, such as 8192 or 8k.",),
    ),
    "search": Verb(
        "search WORDS [--max-size PARAMETERS] [--licence LICENCE] [--task TASK] "
        "[--sort downloads|likes|modified|trending] [--limit ROWS]",
        "Find repositories with GGUF files; %gguf queue N takes row N.",
        _declare_search,
        lambda given: Search(" ".join(given.words), given.max_size, given.sort, given.limit, given.licence, given.task),
        explains=(
            "--max-size is the largest number of parameters, such as 8B or 500M.",
            "--licence and --task are the Hub's words, such as apache-2.0 and image-text-to-text.",
            "Size and fit are guesses for Q4_K_M, from the parameters alone; %gguf plan has the numbers.",
        ),
    ),
    "status": Verb("status", "Show the queue as it is now.", _nothing, lambda _: Status()),
    "history": Verb(
        "history [--clear]",
        "List the last 50 downloads that ended, in all kernels; --clear forgets them.",
        _declare_history,
        lambda given: History(given.clear),
        explains=(
            "%gguf queue ROW queues a row of it again.",
            "--clear takes them off this list only: models, failures that can be retried and partial files stay.",
        ),
    ),
    "panel": Verb(
        "panel [--side]",
        "Show the live panel; beside the notebook with --side.",
        _declare_panel,
        lambda given: ShowPanel(given.side),
        explains=("--side needs the package sidecar: pip install gglib_nb[side].",),
    ),
    "cancel": Verb(
        "cancel ID [--discard] | cancel --all",
        "Stop a download; its bytes stay for a resume unless --discard.",
        _declare_cancel,
        _build_cancel,
        "live",
        (_IDS,),
    ),
    "remove": Verb(
        "remove ID", "Take a waiting download out of the queue.", reference("ID"), about(Remove), "pending", (_IDS,)
    ),
    "move": Verb(
        "move ID POSITION|top|up|down|last",
        "Move a waiting download; 1 is next to run.",
        _declare_move,
        _build_move,
        "pending",
        (_IDS,),
    ),
    "pause": Verb(
        "pause ID | pause --all", "Let a download rest, or all.", _declare_one_or_all, _build_pause, "live", (_IDS,)
    ),
    "resume": Verb(
        "resume ID | resume --all",
        "Let a paused download go on, or all.",
        _declare_one_or_all,
        _build_resume,
        "paused",
        (_IDS,),
    ),
    "run-now": Verb(
        "run-now ID",
        "Run a waiting download now; the one that started last waits for it.",
        reference("ID"),
        about(RunNow),
        "pending",
        (_IDS,),
    ),
    "retry": Verb(
        "retry ID | retry --all",
        "Queue a failed download again; what is right on the disk stays.",
        _declare_retry,
        _build_retry,
        "failed",
        (_IDS,),
    ),
    "clear-failed": Verb(
        "clear-failed [ID]",
        "Empty the list of failures, or take one off it; what was fetched stays.",
        reference("ID", optional=True),
        about(ClearFailed),
        "failed",
        (_IDS,),
    ),
    "limit": Verb(
        "limit [N]",
        "Show or set how many downloads may wait.",
        _declare_limit,
        lambda given: Limit(given.number),
    ),
    "bandwidth": Verb(
        "bandwidth [RATE|off] [--hours HOURS|off]",
        "Show, set or lift the limit of all transfers together: 5 or 5MB is 5 MB/s.",
        _declare_bandwidth,
        _build_bandwidth,
        explains=(
            "--hours 22:00-7:00 lets downloads run between these times of the day only; what runs at 7:00 waits until 22:00.",
        ),
    ),
    "config": Verb(
        "config [NAME [VALUE]] [--save] [--reset]",
        "Show the settings and where each comes from; set one for this kernel.",
        _declare_config,
        _build_config,
        "setting",
        (
            "NAME is a setting as %gguf config lists it, or a part of it that only one has.",
            "--save sets it for every kernel to come as well. --reset takes back what was set or saved.",
        ),
    ),
    "wait": Verb(
        "wait [ID]",
        "Wait for a download, or for all; an interrupt ends the waiting only.",
        reference("ID", optional=True),
        _build_wait,
        "live",
        (_IDS,),
    ),
    **MODEL_VERBS,
    "partials": Verb(
        "partials [TEXT] | partials --queue [TEXT] | partials --discard TEXT | partials --discard --all",
        "List the partial downloads that lie about, go on with them, or delete them.",
        _declare_partials,
        _build_partials,
        explains=("TEXT is a part of their path. What is in the queue, or in use by another kernel, stays.",),
    ),
    "help": Verb("help [VERB]", "Explain a verb.", reference("VERB", optional=True), _build_help, "verb"),
}


def help_text(verb: str | None) -> str:
    """All verbs, a line each; or one verb with its options."""
    if verb is not None:
        found = VERBS[verb]
        return "\n".join([f"%gguf {found.usage}", found.summary, *found.explains])
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {each.summary}" for name, each in VERBS.items()]
    return "\n".join(["%gguf alone shows the panel. Verbs:", *lines, "%gguf help VERB explains one."])


def options_of(verb: str) -> tuple[str, ...]:
    """The options that a verb takes, for completion and for the check of the README."""
    return tuple(dict.fromkeys(_OPTION.findall(VERBS[verb].usage)))
