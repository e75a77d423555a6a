"""The host that runs the cells: a kernel with a user, a program that executes a notebook, or no kernel.

Imports nothing: a script has no IPython, and detecting that must not load it.
"""

import os
import sys
from typing import Any


def kernel() -> Any | None:  # noqa: ANN401 - ipykernel's
    """The kernel of this process; None in a script or a terminal."""
    if (ipython := sys.modules.get("IPython")) is None:
        return None
    return getattr(ipython.get_ipython(), "kernel", None)


def has_user() -> bool:
    """Whether a user sees the outputs: a client that allows input has one, papermill does not. True if unknown."""
    return (running := kernel()) is not None and getattr(running, "_allow_stdin", None) is not False


def is_recording() -> bool:
    """Whether outputs are saved for readers without a kernel. Voilà executes like papermill, but then opens a page."""
    return not has_user() and not os.environ.get("SERVER_SOFTWARE", "").startswith("voila/")
