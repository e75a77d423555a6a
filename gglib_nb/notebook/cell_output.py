"""One output of a cell that can be updated, also when the cell is over. Knows IPython's displays, nothing of ours."""

import uuid
from typing import Any, Final

from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.getipython import get_ipython
from IPython.display import publish_display_data

Data = dict[str, Any]
"""The same content in several kinds: `text/plain`, `text/html`, ..."""


class CellOutput:
    """Belongs to the cell that makes it. Safe from threads, one at a time.

    It keeps the publisher of that cell: user code such as `%%capture` replaces the shell's for the duration of another cell,
    and what a background thread shows then must not end there.
    """

    def __init__(self) -> None:
        self._publisher: Final = getattr(get_ipython(), "display_pub", None)
        self._transient = {"display_id": uuid.uuid4().hex}
        self._shown: Data | None = None
        self._is_updated = False

    @property
    def is_shown(self) -> bool:
        """Whether anything was shown."""
        return self._shown is not None

    @property
    def is_captured(self) -> bool:
        """Whether the cell captures what it shows: such an output cannot be updated."""
        return isinstance(self._publisher, CapturingDisplayPublisher)

    def show(self, data: Data, metadata: Data | None = None) -> None:
        """Shows this in place of what was shown; sends nothing if nothing changed.

        Args:
            data: What to show.
            metadata: Of the data, by kind; None for none.
        """
        if data == self._shown or (self.is_shown and self.is_captured):
            return
        self._is_updated, self._shown = self.is_shown, data
        self._publish(data, metadata, update=self._is_updated)

    def finish(self, data: Data) -> None:
        """Shows how it ended. A front end that ignores updates sees that too: the output is cleared, and shown once more."""
        if data == self._shown and not self._is_updated:
            return
        if self.is_shown and not self.is_captured:
            self._publish(dict.fromkeys(data, ""), None, update=True)
            # A display with an id that was seen before updates the earlier output as well (JupyterLab, nbclient).
            self._transient = {"display_id": uuid.uuid4().hex}
        self._shown = data
        self._publish(data, None, update=False)

    def _publish(self, data: Data, metadata: Data | None, *, update: bool) -> None:
        publish = publish_display_data if self._publisher is None else self._publisher.publish
        publish(data=data, metadata=metadata or {}, transient=self._transient, update=update)
