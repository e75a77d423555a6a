"""Shows a download while a caller waits for it in Python: draws bars, calls a callback, or logs one line a minute.

The operation's own thread reads the snapshots, so a busy loop does not freeze the bars; the caller gets the result after the
last line is drawn. `progress_bars` draws on a terminal; a notebook registers its own view (`use_views`).
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
from gglib_nb.domain.printable import printable
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.units import duration, percent, rate, size

_EVERY_S: Final = 60.0
_log: Final = logging.getLogger("gglib_nb")

ProgressCallback = Callable[[QueuedDownload], object]
Progress = bool | ProgressCallback | None
"""None: shown unless the Hub's own switch is off. False: nothing. A callback is called, and nothing is drawn."""


class ProgressView(Protocol):
    """Shows one download."""

    def show(self, download: QueuedDownload) -> None:
        """Called after a change, at most ten times a second."""

    def close(self) -> None:
        """The download has ended, or the wait for it was cancelled."""


MakeView = Callable[[], ProgressView | None]
_make_view_of_place: MakeView | None = None


def use_views(make: MakeView) -> None:
    """Sets how this process shows downloads, such as in the cell that waits.

    Args:
        make: Returns a view of one more download; None: use standard error. Called on the caller's thread.
    """
    global _make_view_of_place  # noqa: PLW0603 - a process runs in one place
    _make_view_of_place = make


@contextmanager
def shown(
    progress: Progress, id_: DownloadId, snapshot: Callable[[], QueueSnapshot]
) -> Iterator[Callable[[], None] | None]:
    """Shows a download during the block; call its value ten times a second, unless it is None.

    A view that fails is not used again; the download continues.
    """
    view = view_for(progress)
    if view is None:
        yield None
        return
    last: QueuedDownload | None = None
    has_failed = False

    def guarded(draw: Callable[[], None]) -> None:
        nonlocal has_failed
        if not has_failed:
            try:
                draw()
            except Exception:  # noqa: BLE001 - the code that draws is not ours
                has_failed = True
                _log.warning("The progress of a download could not be shown", exc_info=True)

    def look() -> None:
        nonlocal last
        now = _find(id_, snapshot())
        if now is not None and now is not last:
            last = now
            guarded(lambda: view.show(now))

    try:
        yield look
    finally:
        look()  # the last line is drawn before the caller gets the result
        guarded(view.close)


def view_for(progress: Progress) -> ProgressView | None:
    """The view that a caller asked for; None: nothing is shown."""
    if callable(progress):
        return _Callback(progress)
    if progress is False or (progress is None and _is_switched_off()):
        return None
    if _make_view_of_place is not None and (view := _make_view_of_place()) is not None:
        return view
    stream = sys.stderr
    if not is_open(stream):  # a program without a console
        return None
    if is_terminal(stream):
        from gglib_nb.manager.progress_bars import ProgressBars  # loads tqdm, which an import does not pay

        return ProgressBars(stream)
    return LoggedDownload(LOG, LineWriter(stream))


def _is_switched_off() -> bool:
    """The Hub's own switch (`HF_HUB_DISABLE_PROGRESS_BARS`, `disable_progress_bars()`)."""
    from huggingface_hub.utils import are_progress_bars_disabled

    return are_progress_bars_disabled()


def _find(id_: DownloadId, snapshot: QueueSnapshot) -> QueuedDownload | None:
    known = (*snapshot.items, *snapshot.recent_completed, *snapshot.recent_failures, *snapshot.recent_cancelled)
    return next((item for item in known if item.id == id_), None)


class _Callback:
    def __init__(self, callback: ProgressCallback) -> None:
        self._callback: Final = callback

    def show(self, download: QueuedDownload) -> None:
        self._callback(download)

    def close(self) -> None:
        pass


# A log -----------------------------------------------------------------------------------------------------------------


class ProgressLog:
    """Logs one line a minute about all downloads that are waited for. Methods may be called from any thread.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._followed: Final[dict[LoggedDownload, str]] = {}
        self._next_s = 0.0

    def follow(self, view: "LoggedDownload", words: str) -> None:
        """Takes the state of one download; writes after each minute. Downloads with the same `write` share a line."""
        with self._lock:
            now_s = self._clock()
            if not self._followed:
                self._next_s = now_s + _EVERY_S
            self._followed[view] = words
            if now_s >= self._next_s:
                self._next_s = now_s + _EVERY_S
                for write in dict.fromkeys(one.write for one in self._followed):
                    write("; ".join(said for one, said in self._followed.items() if one.write == write))

    def forget(self, view: "LoggedDownload") -> None:
        """No caller waits for it any more."""
        with self._lock:
            self._followed.pop(view, None)


@dataclass(frozen=True, eq=False)
class LoggedDownload:
    """One download in a log."""

    log: ProgressLog
    write: Callable[[str], object]

    def show(self, download: QueuedDownload) -> None:
        """Takes its state."""
        if download.status.is_active or download.status.is_pending:
            self.log.follow(self, said_briefly(download))

    def close(self) -> None:
        """The download has ended, or the wait for it."""
        self.log.forget(self)


@dataclass(frozen=True)
class LineWriter:
    """Writes lines of a log to the stream of the code that waits, whatever `sys.stderr` is when a line is due."""

    stream: Any

    def __call__(self, line: str) -> None:
        """Writes one."""
        if is_open(self.stream):
            write_text(self.stream, f"gglib_nb: {line}\n")


LOG: Final = ProgressLog()
"""The one of this process."""


# Words -----------------------------------------------------------------------------------------------------------------


def name_of(download: QueuedDownload) -> str:
    """Repository and quantization, without the owner."""
    quantization = f":{download.quantization}" if download.quantization else ""
    return printable(f"{download.display_name}{quantization}")


def said_briefly(download: QueuedDownload) -> str:
    """One line of a log."""
    return f"{name_of(download)} {', '.join(parts_of(download))}"


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
        took_s = download.took_s
        yield "already downloaded" if download.was_present else "" if took_s is None else f"in {duration(took_s)}"
        return
    yield _amount(download.downloaded_bytes, download.total_bytes)
    yield "" if download.bytes_per_second is None else rate(download.bytes_per_second)
    yield "" if download.eta_seconds is None else f"{duration(download.eta_seconds)} left"
    yield printable(download.notice) if download.notice else _standing(download)


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


# Text streams: a user's logger, another kernel's stream, or a terminal that is not UTF-8 ---------------------------------

# What our own texts hold, in ASCII; every other character that an encoding lacks becomes a question mark.
_PLAIN: Final = str.maketrans(
    dict(zip("·—█░★▲▼\N{NO-BREAK SPACE}", "--#.*^v ", strict=True)) | {"…": "...", "✓": "yes:"}
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
