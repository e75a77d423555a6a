"""One output of a cell that can be brought up to date, also when the cell is over. Knows IPython's displays, nothing of ours."""

from typing import Any, Final

from IPython.display import DisplayHandle


class CellOutput:
    """Shown in the cell that runs when it is first shown, and brought up to date there. Safe from threads, one at a time."""

    def __init__(self) -> None:
        self._shown: dict[str, Any] | None = None
        self._handle: Final = DisplayHandle()

    @property
    def is_shown(self) -> bool:
        """Whether there is anything of it."""
        return self._shown is not None

    def show(self, data: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Puts this in its place; sends nothing where nothing changed.

        Args:
            data: The same in several kinds: `text/plain`, `text/html`, ...
            metadata: Of the data, by kind; None for none.
        """
        if data == self._shown:
            return
        put = self._handle.display if self._shown is None else self._handle.update
        self._shown = data
        put(data, metadata=metadata, raw=True)
