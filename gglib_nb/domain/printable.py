"""Makes foreign text safe to show: no character of it controls a terminal or changes the direction of a line."""

import unicodedata
from typing import Final

# Categories of characters that move the cursor, start a terminal's escape sequence, or turn the direction of a line.
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """Foreign text on one line, without characters that control a terminal."""
    if text.isprintable():
        return str(text)  # also of a subclass, which could not be sent to the page
    return "".join(" " if unicodedata.category(character) in _UNPRINTABLE else character for character in text)
