"""`gglib_nb.run`: any coroutine from a plain cell or a script."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def run(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs a coroutine to its end and returns its result.

    In a script it makes a loop. Inside a running loop, as in a notebook's cell, it re-enters that loop, which
    `nest_asyncio2` makes possible: the loop is patched from then on. `await` in the cell needs no such thing and is
    better wherever it can be written; the magics and `manager.sync` never patch anything.

    An interrupt in a cell ends the waiting and cancels the coroutine.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # nest_asyncio 1.6 is archived and silently drops cells that are queued behind it under ipykernel 7.
    import nest_asyncio2

    nest_asyncio2.apply(loop)
    result: _Result = loop.run_until_complete(coroutine)
    return result
