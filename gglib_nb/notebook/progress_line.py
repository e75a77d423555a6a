"""A line of progress as text: redrawn in place on a terminal, a line at every quarter elsewhere.

Writes to a stream and knows nothing of what goes on. In a notebook `progress_display.LineDisplay` takes its place.
"""

import os
import shutil
from collections.abc import Callable
from typing import Final, TextIO

from gglib_nb.domain.printable import printable
from gglib_nb.manager.progress import write_text
from gglib_nb.notebook import formats

_QUARTER: Final = 0.25
# ECMA-48: from here to the end of the line.
_ERASE: Final = "\x1b[K"


class TextLine:
    """Writes progress to a stream.

    Args:
        stream: Where to. Characters that its encoding lacks are replaced.
        is_terminal: Redraw in place; False writes a line at the start and at each quarter.
        screen: Asked at each drawing for the terminal's size, since a person may resize it.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        is_terminal: bool,
        screen: Callable[[], os.terminal_size] = shutil.get_terminal_size,
    ) -> None:
        self._stream = stream
        self._is_terminal = is_terminal
        self._screen = screen
        self._told_quarters = -1
        self._drawn = ""

    def show(self, text: str, fraction: float | None) -> None:
        """Says how far it is."""
        line = f"{formats.percent(fraction):>5}  {printable(text)}"
        if not self._is_terminal:
            self._log(line, int((fraction or 0.0) // _QUARTER))
        elif line != self._drawn:
            self._drawn = line
            # One column less than there is: a line that fills the last one wraps on some terminals.
            self._write(f"\r{line[: self._screen().columns - 1]}{_ERASE}")

    def close(self) -> None:
        """Takes the line away; what comes of it all is said by others."""
        if self._drawn:
            self._write(f"\r{_ERASE}")
            self._drawn = ""

    def _log(self, line: str, quarters: int) -> None:
        if quarters > self._told_quarters:
            self._told_quarters = quarters
            self._write(f"{line}\n")

    def _write(self, text: str) -> None:
        write_text(self._stream, text)
