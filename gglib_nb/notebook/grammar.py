"""What the grammar of `%gguf` is made of: a verb, and the error of a line that cannot be read. Knows no verb by name."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

from gglib_nb.notebook.commands import Command


class GrammarError(ValueError):
    """The line cannot be read; its text is one line that says how to write it."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the grammar.

    Attributes:
        usage: What follows `%gguf`, as a person writes it.
        summary: What it does, in one sentence.
        declare: Adds its arguments to a parser.
        build: Makes its value of what was parsed.
        takes: What completes its first argument: `live`, `pending`, `paused`, `failed`, `repository`, `model`, `setting`,
            `folder`, `verb` or nothing.
        explains: More for `%gguf help VERB`, line by line.
    """

    usage: str
    summary: str
    declare: Callable[[argparse.ArgumentParser], None]
    build: Callable[[SimpleNamespace], Command]
    takes: str = ""
    explains: tuple[str, ...] = ()


def reference(name: str, *, optional: bool = False) -> Callable[[argparse.ArgumentParser], None]:
    """Declares the one argument of a verb that is about one thing."""

    def declare(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("reference", metavar=name, nargs="?" if optional else None)

    return declare


def about(kind: Callable[[str], Command]) -> Callable[[SimpleNamespace], Command]:
    """Builds the value of a verb that is about one thing."""
    return lambda given: kind(given.reference)
