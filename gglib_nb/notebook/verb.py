"""The verbs of `%gguf`: each is a function. Its signature declares the arguments, and its docstring is the help.

Parses a line into a call of such a function, completes it, and generates usage, help and the reference page.
Independent of the individual verbs and the manager. A completion uses only data that is in memory, without requests.
"""

import inspect
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from gglib_nb.domain.names import DownloadId, canonical
from gglib_nb.domain.text import did_you_mean, printable, similar
from gglib_nb.errors import GglibError, NoGgufFilesError
from gglib_nb.notebook.session import Answer, Session

Group = Literal["get", "queue", "models", "settings"]
GROUP_TITLES: Final[dict[Group, str]] = {
    "get": "Find and download models",
    "queue": "The download queue",
    "models": "Your models",
    "settings": "Settings and help",
}
CANCELLED: Final = "Interrupted. The request was cancelled."
"""The `interrupted` of a verb that changes nothing before it is complete."""
# A word as in a shell; for an unclosed quotation, only its quotation mark.
_WORD: Final = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:\\.|[^"\\])*"|'[^']*')+|["'\\]""")
# Also after an assignment: `paths["a"] = %gguf path …`; without the percent sign if IPython's automagic is on.
_MAGIC_LINE: Final = re.compile(r"\s*+((?:(?:[\w,.:* ]|\[[^\[\]]*\])++=\s*+)?%)?gguf\s++(.*)")
_NUMBER: Final = re.compile(r"#\d+")
_DASHED: Final = re.compile(r"-\D|--.")
# What a phone's keyboard makes of quotation marks and of `--`.
_CURLY: Final = re.compile(r"(?<![^\s=])(?:[“„”]([^“”]*)[“”]|[‘‚’]([^‘’]*)[‘’])(?!\S)")  # noqa: RUF001 - as a phone types them
_LONG_DASH: Final = re.compile(r"^[–—](?=[a-z])")  # noqa: RUF001 - as a phone types them
# What pages and chats put between and into words: non-breaking spaces and hyphens, characters without width.
TYPOGRAPHIC: Final = str.maketrans("\xa0\u2010\u2011", " --", "\u200b\u2060\ufeff")
# How the paragraph of a verb's docstring begins that explains arguments and options.
_STATED: Final = re.compile(r"--[a-z]|[A-Z0-9]{2,}\S*: ")
_TAGGED: Final = re.compile(r"[^\s:]+/[^\s:]+:[\w.-]+", re.ASCII)


class GrammarError(ValueError):
    """The line cannot be parsed; the message is one line with the correct form."""


@dataclass(frozen=True, slots=True)
class Argument:
    """How a verb's parameter is written, read and completed: the metadata of its `Annotated` type, if it needs any."""

    name: str = ""  # in usage and help, such as `ID`; of an option: the name of its value
    help: str = ""  # one sentence; empty if the name is enough
    read: Callable[[str], Any] = str  # text to value; raises `GrammarError`
    find: Callable[[Session, str], Any] | None = None  # what the text refers to, when the verb runs
    choices: tuple[str, ...] = ()  # the allowed values; empty: any
    # The completions, if there are no choices; from the words of the verb, the last one possibly incomplete.
    offers: Callable[[Session, Sequence[str]], Iterable[str]] | tuple[str, ...] = ()
    takes_rest: bool = False  # all remaining words, joined with spaces
    has_unit: bool = False  # of an option: after a plain number, the next word is its unit
    is_instead: bool = False  # either the first argument or this option must be given
    # Whether these words are a pasted command: all of it is the argument, except the verb's options but `--revision`.
    is_command: Callable[[Sequence[str]], bool] = lambda _words: False
    # Set from the signature:
    key: str = ""
    option: str = ""  # such as `--dry-run`; empty for a word
    is_required: bool = False
    has_value: bool = True
    is_repeated: bool = False

    @property
    def form(self) -> str:
        """The word, or the option with the name of its value."""
        return f"{self.option} {self.name}".strip()


All = Annotated[bool, Argument(help="All of them.", is_instead=True)]
"""The option `--all` of a verb whose first argument is then None."""


class Verb:
    """One verb, made by the decorator `verb`.

    A keyword-only parameter of its function is an option with its name: `dry_run` is `--dry-run`. An option of type
    `bool` has no value, one of type `tuple` may be repeated, and the values of a `Literal` are its choices. The
    docstring has the summary, then notes, then a paragraph with a line for each argument and option that needs help:
    `--only STATE: Only models in this state.`
    """

    def __init__(self, function: Callable[..., Answer | str], group: Group, interrupted: str) -> None:
        self.function: Final = function
        self.name: Final = function.__name__.rstrip("_").replace("_", "-")
        self.group: Final = group
        self.interrupted: Final = interrupted
        summary, *notes = (inspect.getdoc(function) or "").split("\n\n")
        lines = re.split(r"\n(?! )", notes.pop()) if notes and _STATED.match(notes[-1]) else []
        stated = dict(" ".join(line.split()).split(": ", 1) for line in lines)
        self.summary: Final = " ".join(summary.split())
        self.notes: Final = [" ".join(paragraph.split()) for paragraph in notes]
        _session, *parameters = inspect.signature(function).parameters.values()
        declared = [_declared(parameter, stated) for parameter in parameters]
        self.arguments: Final = [one for one in declared if not one.option]
        self.options: Final = {one.option: one for one in declared if one.option}

    @property
    def usage(self) -> str:
        """The usage; of a verb with several forms, all of them."""
        replacing = [each.form for each in self.options.values() if each.is_instead]
        words = [each.name if each.is_required or replacing else f"[{each.name}]" for each in self.arguments]
        words += [f"[{each.form}]" for each in self.options.values() if not each.is_instead]
        return " | ".join(f"%gguf {self.name} {each}".rstrip() for each in (" ".join(words), *replacing))

    @property
    def details(self) -> list[tuple[str, str]]:
        """The arguments and options that have a help text, with that text."""
        every = (*self.arguments, *self.options.values())
        choices = [f" One of {', '.join(each.choices)}." if len(each.choices) > 1 else "" for each in every]
        return [(each.form, each.help + more) for each, more in zip(every, choices, strict=True) if each.help + more]

    @property
    def help(self) -> str:
        """The verb with its arguments and options."""
        width = max((len(name) for name, _ in self.details), default=0)
        details = [f"  {name:<{width}}  {text}" for name, text in self.details]
        return "\n".join([self.usage, self.summary, *self.notes, *details])

    @contextmanager
    def usage_in_errors(self) -> Iterator[None]:
        """Adds the verb's usage to a `GrammarError`."""
        try:
            yield
        except GrammarError as error:
            text = str(error)
            ended = text if text.endswith("?") else f"{text.rstrip('.')}."
            raise GrammarError(printable(f"{ended[:1].upper()}{ended[1:]} Usage: {self.usage}")) from error

    def read(self, words: Sequence[str]) -> "Call":
        """Parses the words after the verb.

        Raises:
            GrammarError: The words do not match; the message has the usage.
        """
        with self.usage_in_errors():
            is_command = bool(self.arguments) and self.arguments[0].is_command(words)
            end = [*words, "--"].index("--")
            given, rest = self._read_options(words[:end], is_command=is_command)
            rest += words[end + 1 :]
            for argument in self.arguments:
                taken = rest if is_command or argument.takes_rest or argument.is_repeated else rest[:1]
                rest = rest[len(taken) :]
                for text in taken if argument.is_repeated or not taken else [" ".join(taken)]:
                    _add(given, argument, text)
            if rest:
                left = " ".join(rest)
                whole = ":".join([*map(str, given.values()), left][-2:])  # `owner/name Q4_K_M`, as in Python
                hint = f". Did you mean {whole}?" if _TAGGED.fullmatch(whole) else ""
                raise GrammarError(f"{left!r} is unexpected here{hint}")
            for option in self.options.values():
                if option.is_instead and (option.key in given) == (self.arguments[0].key in given):
                    raise GrammarError(f"Write either {self.arguments[0].name} or {option.option}")
            for argument in self.arguments:
                if argument.is_required and argument.key not in given:
                    raise GrammarError(f"{argument.name} is missing")
            return Call(self, given)

    def _read_options(self, words: Sequence[str], *, is_command: bool) -> tuple[dict[str, Any], list[str]]:
        """The values of the options, and the other words."""
        given: dict[str, Any] = {}
        rest: list[str] = []
        left = [*reversed(words)]
        while left:
            each = left.pop()
            word = "--all" if each == "all" and "--all" in self.options else each  # not a part of an id
            name, has_value, text = word.partition("=")
            option = self.options.get(name)
            if not _DASHED.match(word) or (is_command and (name == "--revision" or option is None)):
                rest.append(word)
            elif option is None:
                near = did_you_mean(similar(name, self.options, cutoff=0.6))
                near = f"There is %gguf {name[2:]}." if name[2:] in VERBS else near
                raise GrammarError(f"%gguf {self.name} has no option {name}. {near}".rstrip())
            elif option.has_value:
                value = text if has_value else left.pop() if left else "--"
                if not has_value and _DASHED.match(value):
                    raise GrammarError(f"{name} needs a value: {', '.join(option.choices) or option.form}")
                if option.has_unit and left and value.replace(".", "", 1).isdecimal() and left[-1].isalpha():
                    value += left.pop()
                _add(given, option, value)
            elif has_value:
                raise GrammarError(f"{name} takes no value")
            else:
                given[option.key] = True
        return given, rest


def _declared(parameter: inspect.Parameter, stated: Mapping[str, str]) -> Argument:
    """Makes the argument or option of a parameter; `stated` maps its form to its help."""
    hint = parameter.annotation
    kind = get_args(hint)[0] if get_origin(hint) in (Union, UnionType) else hint
    argument, word = Argument(), parameter.name.strip("_")
    if get_origin(kind) is Annotated:
        kind, argument = get_args(kind)
    is_repeated = get_origin(kind) is tuple
    each = get_args(kind)[0] if is_repeated else kind
    option = f"--{word.replace('_', '-')}" if parameter.kind is parameter.KEYWORD_ONLY else ""
    form = argument.name or word.upper()
    if option:
        form = next((form for form in stated if form.split(" ")[0] == option), option)
    return replace(
        argument,
        name=argument.name or form.removeprefix(option).strip(),
        help=argument.help or stated.get(form, ""),
        choices=argument.choices or (get_args(each) if get_origin(each) is Literal else ()),
        key=parameter.name,
        option=option,
        is_required=parameter.default is parameter.empty,
        has_value=kind is not bool,
        is_repeated=is_repeated,
    )


def verb(
    group: Group, *, interrupted: str = "Interrupted. %gguf status shows the queue."
) -> Callable[[Callable[..., Answer | str]], Verb]:
    """Registers a function as a verb; it takes the session and the arguments and returns the answer.

    The first paragraph of the docstring is the verb's line in `%gguf help`; `%gguf help VERB` shows the others.
    `interrupted` is the message after an interrupt.
    """

    def register(function: Callable[..., Answer | str]) -> Verb:
        made = Verb(function, group, interrupted)
        VERBS[made.name] = made
        return made

    return register


VERBS: Final[dict[str, Verb]] = {}
"""Every verb by its name; filled when `gglib_nb.notebook.verbs` is imported."""


@dataclass(frozen=True, slots=True)
class Call:
    """A parsed line."""

    verb: Verb
    arguments: dict[str, Any]

    def run(self, session: Session) -> Answer:
        """Runs the verb; a `GrammarError` has the usage. A text that it returns is one line, made printable here."""
        given = dict(self.arguments)
        with self.verb.usage_in_errors():
            for one in self.verb.arguments:
                if one.find is not None and one.key in given:
                    given[one.key] = one.find(session, given[one.key])
            try:
                answer = self.verb.function(session, **given)
            except NoGgufFilesError as error:
                if error.alternatives:  # can be queued by number
                    session.list_rows(map(DownloadId, error.alternatives))
                raise
        return Answer(printable(answer)) if isinstance(answer, str) else answer


def split_words(line: str, *, has_escapes: bool = os.name == "posix") -> list[str]:
    """The words of a line, split as in a shell, without comments and a final `;`.

    A comment begins with a `#` at the start of a word, unless the word is a number such as `#2`. Curly quotation marks
    and long dashes are read as a keyboard's. On Windows, a backslash is part of a path.

    Raises:
        GrammarError: The line ends inside a quotation or after a backslash.
    """
    line = line.translate(TYPOGRAPHIC)
    if not re.search("['\"]", line):
        line = _CURLY.sub(lambda quoted: shlex.quote(quoted[1] or quoted[2] or ""), line)
    words = _WORD.finditer(line)
    comments = (word.start() for word in words if word[0].startswith("#") and not _NUMBER.fullmatch(word[0]))
    lexer = shlex.shlex(line[: next(comments, None)].rstrip().removesuffix(";"), posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    lexer.escape = lexer.escape if has_escapes else ""
    try:
        return [_LONG_DASH.sub("--", word) for word in lexer]
    except ValueError as error:
        raise GrammarError(
            "The line ends inside a quotation or after a backslash. Put a word with an apostrophe in double quotes."
        ) from error


def _add(given: dict[str, Any], one: Argument, text: str) -> None:
    """Adds the value of a text."""
    if one.choices and text.lower() not in one.choices:
        raise GrammarError(f"{one.option} can be {', '.join(one.choices)}, not {text!r}")
    try:
        value = one.read(text.lower() if one.choices else text)
    except GglibError as error:  # from a parser in the domain
        raise GrammarError(str(error)) from error
    if one.option and not one.is_repeated and given.get(one.key, value) != value:
        raise GrammarError(f"{one.option} is given twice")
    if one.is_repeated:
        before = given.get(one.key, ())
        value = before if one.option and value in before else (*before, value)
    given[one.key] = value


def all_verbs() -> list[Verb]:
    """Every verb, group by group."""
    return [each for group in get_args(Group) for each in VERBS.values() if each.group == group]


def help_of_all() -> str:
    """All verbs, a line each, in their groups."""
    width = max(map(len, VERBS))
    lines = ["%gguf alone shows the panel."]
    for group in get_args(Group):
        lines.append(f"{GROUP_TITLES[group]}:")
        lines += [f"  {each.name:<{width}}  {each.summary}" for each in all_verbs() if each.group == group]
    return "\n".join([*lines, "%gguf help VERB explains a verb."])


# Tab completion --------------------------------------------------------------------------------------------------


def words_before(before_cursor: str, *, has_automagic: bool = False) -> list[str] | None:
    """The words after `%gguf` up to the cursor, the last one possibly incomplete; None for any other line.

    With automagic, the percent sign is optional.
    """
    found = _MAGIC_LINE.fullmatch(before_cursor)
    if found is None:
        return None
    words = re.split(r"\s+", found[2])
    # Without the percent sign, `gguf = 1` and `gguf in names` are Python code.
    is_verb = words[0] in VERBS if len(words) > 1 else any(verb.startswith(words[0]) for verb in VERBS)
    return words if found[1] or (has_automagic and is_verb) else None


def complete(words: Sequence[str], session: Session) -> list[str]:
    """The replacements for the last word, best first."""
    *given, fragment = words
    if not given:
        return [verb.name for verb in all_verbs() if _continues(fragment, verb.name)]
    if given[0] not in VERBS:
        return []
    name, has_value, begun = fragment.partition("=")
    option = VERBS[given[0]].options.get(name)
    if has_value and option is not None and option.has_value:
        return [f"{name}={text}" for text in complete([*given, name, begun], session)]
    offered = _offered(VERBS[given[0]], given[1:], fragment, session)
    found = (text for text in dict.fromkeys(offered) if _continues(fragment, text))
    return [shlex.quote(text) if re.search(r"[\s'\"\\]", text) else text for text in found]


def _continues(fragment: str, text: str) -> bool:
    """Whether the text continues the fragment; a repository may be typed without its owner."""
    typed, whole = canonical(fragment).casefold(), text.casefold()
    return whole.startswith(typed) or ("/" not in typed and whole.partition("/")[2].startswith(typed))


def _offered(verb: Verb, given: Sequence[str], fragment: str, session: Session) -> Iterable[str]:
    words, option = list[str](), None  # the option whose value comes next
    for word in given:
        if option is not None:
            option = None
        elif word in verb.options:
            option = verb.options[word] if verb.options[word].has_value else None
        elif not word.startswith("-"):
            words.append(word)
    if option is None and fragment.startswith("-"):
        return [name for name, each in verb.options.items() if each.is_repeated or name not in given]
    offered = [name for name, each in verb.options.items() if each.is_instead and not given and option is None]
    left = verb.arguments[len(words) :] or [each for each in verb.arguments[-1:] if each.takes_rest or each.is_repeated]
    for each in [option] if option else left[:1]:
        offers = each.choices or each.offers
        offered += offers(session, [*words, fragment]) if callable(offers) else offers
    return offered


# Values of arguments and options that are no settings -----------------------------------------------------------------


def _read_number(unit_sizes: Mapping[str, int], mistake: str, text: str) -> int:
    """Reads a number with one of these units, as a whole number of at least 1."""
    number = rf"(\d{{1,30}}(?:\.\d+)?)\s*({'|'.join(unit_sizes)})"
    found = re.fullmatch(number, text.strip(), re.IGNORECASE | re.ASCII)
    value = int(Fraction(found[1]) * unit_sizes[found[2].lower()]) if found else 0
    if not found or not value or (not found[2] and not found[1].isdecimal()):
        raise GrammarError(f"{text!r} {mistake}")
    return value


read_count: Final = partial(_read_number, {"": 1, "k": 1000, "ki": 1024}, "is not a whole number of at least 1")
read_age: Final = partial(
    _read_number, {"h": 3_600, "d": 86_400, "w": 604_800}, "is not an age. Write one such as 30d, 8w or 12h"
)
read_parameters: Final = partial(
    _read_number, {"m": 10**6, "b": 10**9, "t": 10**12}, "is not a number of parameters. Write one such as 8B or 500M"
)
