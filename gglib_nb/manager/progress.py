"""Shows a download while a caller waits for it in Python: draws bars, calls a callback, or writes a line a minute to a log.

The operation's own thread looks at the snapshots, so that a busy loop does not freeze the bars; the caller gets the result
after the last line is drawn, so that what a script prints next is below it. `progress_bars` draws on a terminal; a notebook
brings its own view (`use_views`).
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gglib_nb.domain.download import DownloadStatus, QueuedDownload, QueueSnapshot, ShardProgress, ShardStatus
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.units import duration, percent, rate, size

_log: Final = logging.getLogger("gglib_nb")

ProgressCallback = Callable[[QueuedDownload], object]
Progress = bool | ProgressCallback | None
"""None: by itself, as huggingface_hub does. False: nothing. A callback: it is told, and nothing is drawn."""


class ProgressView(Protocol):
    """Whatever shows one download."""

    def show(self, download: QueuedDownload) -> None:
        """Takes how it is now; called when something changed, ten times a second at most."""

    def close(self) -> None:
        """It is over, or nobody waits any more."""


MakeView = Callable[[], ProgressView | None]
_make_view_of_place: MakeView | None = None


def use_views(make: MakeView) -> None:
    """Lets the place where this process runs show downloads in its own way, as a notebook does in the cell that waits.

    Args:
        make: Gives a view of one more download; None where standard error is the better place. Called by whoever asks for
            the download, on the same thread.
    """
    global _make_view_of_place  # noqa: PLW0603 - a process runs in one place
    _make_view_of_place = make


@contextmanager
def shown(
    progress: Progress, id_: DownloadId, snapshot: Callable[[], QueueSnapshot]
) -> Iterator[Callable[[], None] | None]:
    """Shows a download during the block, where what it gives is called ten times a second; None: nothing is shown.

    Args:
        progress: What the caller asked for.
        id_: The download.
        snapshot: The queue as it is now.
    """
    view = view_for(progress)
    if view is None:
        yield None
        return
    look = _Look(view, id_, snapshot)
    try:
        yield look
    finally:
        look()  # the last line is drawn before the caller gets the result
        look.close()


def view_for(progress: Progress) -> ProgressView | None:
    """What shows a download that was asked for so; None where nothing does."""
    if callable(progress):
        return _Told(progress)
    if progress is False or (progress is None and _is_unwanted()):
        return None
    if _make_view_of_place is not None and (view := _make_view_of_place()) is not None:
        return view
    stream = sys.stderr
    if not is_open(stream):  # a program without a console
        return None
    if is_terminal(stream):
        from gglib_nb.manager.progress_bars import ProgressBars

        return ProgressBars(stream)

    return LOG.view(LineWriter(stream))


def _is_unwanted() -> bool:
    """The Hub's own switch (`HF_HUB_DISABLE_PROGRESS_BARS`, `disable_progress_bars()`)."""
    from huggingface_hub.utils import are_progress_bars_disabled

    return are_progress_bars_disabled()


class _Look:
    """One view of one download; a view that fails is not used again, and the download is not affected."""

    def __init__(self, view: ProgressView, id_: DownloadId, snapshot: Callable[[], QueueSnapshot]) -> None:
        self._view: Final = view
        self._id: Final = id_
        self._snapshot: Final = snapshot
        self._shown: QueuedDownload | None = None
        self._has_failed = False

    def __call__(self) -> None:
        """Shows it as it is now, where that is new."""
        now = _find(self._id, self._snapshot())
        if now is not None and now is not self._shown:
            self._shown = now
            self._guarded(lambda: self._view.show(now))

    def close(self) -> None:
        """Ends the view."""
        self._guarded(self._view.close)

    def _guarded(self, draw: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            draw()
        except Exception:  # noqa: BLE001 - what draws must not take the download with it
            self._has_failed = True
            _log.warning("The progress of a download could not be shown", exc_info=True)


def _find(id_: DownloadId, snapshot: QueueSnapshot) -> QueuedDownload | None:
    known = (*snapshot.items, *snapshot.recent_completed, *snapshot.recent_failures, *snapshot.recent_cancelled)
    return next((item for item in known if item.id == id_), None)


class _Told:
    """Passes on to a callback."""

    def __init__(self, callback: ProgressCallback) -> None:
        self._callback: Final = callback

    def show(self, download: QueuedDownload) -> None:
        """Calls it."""
        self._callback(download)

    def close(self) -> None:
        """Nothing is left to do."""


# A log -----------------------------------------------------------------------------------------------------------------

_EVERY_S: Final = 60.0


class ProgressLog:
    """One log. Methods may be called from any thread.

    Args:
        write: Takes a line.
        clock: Seconds that only grow.
    """

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write: Final = write
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._followed: Final[dict[object, tuple[str, Callable[[str], object]]]] = {}
        self._next_s: float | None = None

    def view(self, write: Callable[[str], object] | None = None) -> "LoggedDownload":
        """Shows one more download.

        Args:
            write: Takes its lines; None: what takes those of the log. Downloads with the same one share a line.
        """
        return LoggedDownload(self, write or self._write)

    def tell(self, who: object, words: str, write: Callable[[str], object]) -> None:
        """Takes the state of one; writes when a minute is over."""
        with self._lock:
            now_s = self._clock()
            if self._next_s is None:
                self._next_s = now_s + _EVERY_S
            self._followed[who] = (words, write)
            if now_s >= self._next_s:
                self._next_s = now_s + _EVERY_S
                for one in dict.fromkeys(each for _, each in self._followed.values()):
                    one("; ".join(words for words, each in self._followed.values() if each == one))

    def forget(self, who: object) -> None:
        """Nothing waits for it any more."""
        with self._lock:
            self._followed.pop(who, None)
            if not self._followed:
                self._next_s = None


class LoggedDownload:
    """One download in a log."""

    def __init__(self, log: ProgressLog, write: Callable[[str], object]) -> None:
        self._log: Final = log
        self._write: Final = write

    def show(self, download: QueuedDownload) -> None:
        """Takes its state."""
        if download.status.is_active or download.status.is_pending:
            self._log.tell(self, said_briefly(download), self._write)

    def close(self) -> None:
        """It is over, or nothing waits for it any more."""
        self._log.forget(self)


@dataclass(frozen=True)
class LineWriter:
    """Writes lines of a log to a stream: the one of the code that waits, whatever `sys.stderr` is when a line is due."""

    stream: Any

    def __call__(self, line: str) -> None:
        """Writes one."""
        if is_open(self.stream):
            write_text(self.stream, f"gglib_nb: {line}\n")


LOG: Final = ProgressLog(lambda _line: None)
"""The one of this process: several downloads together write one line a minute."""


# Words -----------------------------------------------------------------------------------------------------------------


def name_of(download: QueuedDownload) -> str:
    """Repository and quantization, without the owner."""
    quantization = f":{download.quantization}" if download.quantization else ""
    return _printable(f"{download.display_name}{quantization}")


def said_briefly(download: QueuedDownload) -> str:
    """One line of a log."""
    return " ".join([name_of(download), ", ".join(parts_of(download))])


def parts_of(download: QueuedDownload) -> list[str]:
    """What is known of it, the most important first."""
    return [part for part in _parts(download) if part]


def parts_of_file(file: ShardProgress) -> list[str]:
    """The same of one of its files."""
    parts = [_percent(_fraction(file)), _amount(file.downloaded_bytes, file.size_bytes)]
    return [part for part in [*parts, "verifying" if file.status is ShardStatus.VERIFYING else ""] if part]


def is_moving(file: ShardProgress) -> bool:
    """Whether a file is being fetched or verified."""
    return file.status in (ShardStatus.DOWNLOADING, ShardStatus.VERIFYING)


def _parts(download: QueuedDownload) -> Iterator[str]:
    yield _percent(download.progress)
    if download.status is DownloadStatus.COMPLETED:
        yield size(download.total_bytes)
        yield "already downloaded" if download.was_present else _time_taken(download)
        return
    yield _amount(download.downloaded_bytes, download.total_bytes)
    yield "" if download.bytes_per_second is None else rate(download.bytes_per_second)
    yield "" if download.eta_seconds is None else f"{duration(download.eta_seconds)} left"
    yield _printable(download.notice) if download.notice else _standing(download)


def _time_taken(download: QueuedDownload) -> str:
    return "" if download.took_s is None else f"in {duration(download.took_s)}"


def _standing(download: QueuedDownload) -> str:
    if download.status.is_pending:
        return f"{download.status}, number {download.position}"
    return "" if download.status is DownloadStatus.DOWNLOADING else download.status.value


def _fraction(file: ShardProgress) -> float | None:
    return None if not file.size_bytes else min(1.0, file.downloaded_bytes / file.size_bytes)


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else percent(fraction)


def _amount(downloaded_bytes: int, total_bytes: int | None) -> str:
    if total_bytes is None:
        return size(downloaded_bytes)
    return (
        size(total_bytes)
        if downloaded_bytes in (0, total_bytes)
        else f"{size(downloaded_bytes)} of {size(total_bytes)}"
    )


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


# Text streams: a user's logger, another kernel's stream, or a terminal that is not UTF-8 ---------------------------------

# What our own texts hold, in ASCII; every other character that an encoding lacks becomes a question mark.
_PLAIN: Final = str.maketrans(
    {
        "·": "-",
        "—": "-",
        "…": "...",
        "█": "#",
        "░": ".",
        "★": "*",
        "✓": "yes:",
        "▲": "^",
        "▼": "v",
        "\N{NO-BREAK SPACE}": " ",
    }
)


def is_terminal(stream: Any) -> bool:  # noqa: ANN401 - whatever replaced `sys.stdout`
    """Whether it is a terminal; False where it cannot say."""
    try:
        return bool(stream.isatty())
    except (AttributeError, OSError, ValueError):  # it has no such method, or is closed
        return False


def is_open(stream: Any) -> bool:  # noqa: ANN401 - as above
    """Whether something can be written to it."""
    return stream is not None and not getattr(stream, "closed", False)


def encodable(text: str, stream: Any) -> str:  # noqa: ANN401 - as above
    """The text with the characters that the stream's encoding lacks replaced."""
    encoding = getattr(stream, "encoding", None)
    if not isinstance(encoding, str):
        return text
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    except LookupError:  # an encoding that Python does not know
        return text.translate(_PLAIN).encode("ascii", "replace").decode("ascii")
    return text


def write_text(stream: Any, text: str) -> None:  # noqa: ANN401 - as above
    """Writes a text and flushes it."""
    stream.write(encodable(text, stream))
    if hasattr(stream, "flush"):
        stream.flush()
