"""Texts from outside, made harmless to show: none of their characters steers a terminal or turns a line. Pure."""

import unicodedata
from typing import Final

# Categories of characters that move the cursor, start a terminal's escape sequence, or turn the direction of a line.
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """A text from outside on one line, without what could steer a terminal."""
    return "".join(" " if unicodedata.category(character) in _UNPRINTABLE else character for character in text)
