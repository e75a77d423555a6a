"""The rule for every message to a user: complete sentences, without missing names."""

import re

# Traces of an empty or unknown name: two spaces, a space before a full stop, empty quotes or brackets, a Python value.
_HOLE = re.compile(r"\bNone\b|  | [.,;:)]|''|\"\"|\(\)|//(?:[/ ,.;]|$)|\bnan\b|\binf\b|<class|\{\}")


def check_sentence(text: str) -> None:
    """Refuse a text with a gap.

    Raises:
        AssertionError: It has one.
    """
    assert not (hole := _HOLE.search(text)), f"a hole at {text[hole.start() - 20 : hole.end() + 20]!r} of {text!r}"
    assert not text[:1].isspace(), text
    assert text.endswith((".", "?")), text
    assert ".." not in text.replace("...", ""), text


def is_sentence(text: str) -> bool:
    """Whether it is one line of whole sentences; it may end with a command to type."""
    return (
        bool(text) and "\n" not in text and not _HOLE.search(text) and (text.endswith((".", "?")) or ": %gguf " in text)
    )
