"""The engine process: commands in by standard input, events out by standard output.

Ends by itself when its input closes or its parent is gone (a process that the user forked from the kernel can
keep the pipe open, so the parent's id is looked at each second), and leaves everything such that it can be
resumed. What Python would print goes to standard error, and there to a limit.
"""

import os
import sys
import threading
from collections.abc import Iterator
from typing import Final, TextIO, cast

from gglib_nb.domain.secrets import redacted
from gglib_nb.engine.process.commands import CommandHandler
from gglib_nb.engine.process.outbox import Outbox
from gglib_nb.engine.protocol import Ready, decode_command
from gglib_nb.engine.storage.lease import owner_name
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.system import PipeReader, is_orphaned, lower_priority

_PARENT_LOOK_S: Final = 1.0
# A little nicer than the user's cells: where both want a core, the cell gets it first.
_NICENESS: Final = 5
_LOG_LIMIT_BYTES: Final = 256 * 1024


class LimitedText:
    """What stands for `sys.stderr`: it hides secrets, and says nothing more beyond a limit."""

    def __init__(self, stream: TextIO, limit_bytes: int) -> None:
        self._stream = stream
        self._left_bytes = limit_bytes

    def write(self, text: str) -> int:
        """Write it while there is room."""
        if self._left_bytes > 0:
            self._left_bytes -= len(text)
            self._stream.write(redacted(text))
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        """Nothing: every write is flushed."""


def lines_until_orphaned(fd: int, parent_pid: int) -> Iterator[bytes]:
    """Lines of the input, until it closes or the parent is another process."""
    rest, pipe = b"", PipeReader(fd)
    while True:
        data = pipe.read(_PARENT_LOOK_S)
        if data == b"" or is_orphaned(parent_pid):
            return
        if data is None:
            continue
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def main(parent_pid: int) -> None:
    """Run until the kernel is gone.

    Args:
        parent_pid: The kernel, as it says itself: by now it may be gone already.
    """
    # Nothing else may write into the events: a stray print ends up in the log.
    events = os.dup(1)
    os.dup2(2, 1)
    sys.stderr = sys.stdout = cast(TextIO, LimitedText(sys.stderr, _LOG_LIMIT_BYTES))
    lower_priority(_NICENESS)
    is_lost = threading.Event()
    outbox = Outbox(events, is_lost.set)
    worker = CommandHandler(outbox.post, Timeouts.from_environment(os.environ))
    outbox.post(Ready(os.getpid(), owner_name()))
    for line in lines_until_orphaned(0, parent_pid):
        try:
            worker.handle(decode_command(line))
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
    worker.shut_down()
    outbox.flush()
    # Without waiting for threads that sit in a connect or a name lookup.
    os._exit(0)
