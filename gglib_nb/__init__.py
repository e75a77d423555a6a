"""GGUF models from the Hugging Face Hub, in a notebook.

    %load_ext gglib_nb
    %gguf queue owner/repo:Q4_K_M          # in any cell; the queue runs while other cells run
    %gguf                                  # the panel
    path = await gglib_nb.download("owner/repo", "Q4_K_M")

In a script, `gglib_nb.download_sync` does the same without a loop.

The package, from the ground up: `errors` and `domain` are values and rules; `queue` is the queue as a pure state
machine; `hub`, `engine`, `catalog` and `settings` are the network, the process that downloads, the database and the
settings; `manager` has the operations; `notebook` is what a user sees. `demo` is a hub of its own on loopback. What is
listed in `__all__` is promised, the rest is not. The stub `__init__.pyi` says where each name is and what its type is.

Importing this costs next to nothing: every name is imported when it is first used.
"""

import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

with open(f"{__file__}i", encoding="utf-8") as _file:  # noqa: PTH123 - importing pathlib would take half of the time
    _STUB: Final = _file.read()
_MODULE_OF: Final = {
    name: module
    for module, _, names in (one.partition(" import ") for one in _STUB.split("\nfrom "))
    for name in re.findall(r"(\w+) as", names)
}

__all__ = ["load_ipython_extension", "unload_ipython_extension", *_MODULE_OF]  # noqa: PLE0604 - a table of texts


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the attribute's own type is in the stub
    if name == "__version__":
        from importlib.metadata import version

        return version("gglib-nb")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    # What is promised and nothing else, for Tab.
    return sorted({"__version__", *__all__})


def load_ipython_extension(shell: "InteractiveShell") -> None:
    """`%load_ext gglib_nb`: registers `%gguf`. Starts nothing and prints nothing.

    Raises:
        UsageError: This Python runs in a browser (JupyterLite), where no process can be started.
    """
    if sys.platform == "emscripten":
        from IPython.core.error import UsageError

        raise UsageError(
            "gglib_nb downloads in its own process, and JupyterLite has none; use a Jupyter server, Colab or VS Code."
        )
    import_module("gglib_nb.notebook.magic").load(shell)


def unload_ipython_extension(shell: "InteractiveShell") -> None:
    """`%unload_ext gglib_nb`: restores what was there before. Downloads continue."""
    import_module("gglib_nb.notebook.magic").unload(shell)
