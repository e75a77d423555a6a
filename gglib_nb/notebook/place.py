"""What the place where a line is run can do: how wide it is, whether somebody can be asked, how progress is shown.

Made by the magic, which knows IPython; used by the verbs, which do not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class ProgressLine(Protocol):
    """One line that is brought up to date while somebody waits."""

    def show(self, text: str, fraction: float | None) -> None:
        """Says how far it is: in words, and 0 to 1 (None unknown). As often as it is called."""

    def close(self) -> None:
        """Nothing more comes."""


class NoProgress:
    """Shows nothing."""

    def show(self, text: str, fraction: float | None) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line is run.

    Attributes:
        width: Columns of characters that tables keep to; None: any.
        ask: Puts a question to a person; None where nobody can be asked.
        progress: Begins a line of progress.
    """

    width: int | None = None
    ask: Callable[[str], bool] | None = None
    progress: Callable[[], ProgressLine] = NoProgress
