"""Who runs the cells: a kernel with a person before it, a kernel that works a notebook off, or no kernel at all.

Imports nothing: in a script there is no IPython, and none is loaded to find that out.
"""

import os
import sys
from typing import Any


def kernel() -> Any | None:  # noqa: ANN401 - ipykernel's
    """The kernel that this process is; None in a script or a terminal."""
    if (ipython := sys.modules.get("IPython")) is None:
        return None
    return getattr(ipython.get_ipython(), "kernel", None)


def has_person() -> bool:
    """Whether a user looks at the outputs: clients that allow input have one, papermill has none. True where it is unknown."""
    return (running := kernel()) is not None and bool(getattr(running, "_allow_stdin", True))


def is_recording() -> bool:
    """Whether all that cells show is kept for readers without a kernel. Voilà runs cells as papermill does, and then opens a page."""
    return not has_person() and not os.environ.get("SERVER_SOFTWARE", "").startswith("voila/")
