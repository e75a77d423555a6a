"""Shows a download while a caller waits for it in Python: draws bars, calls a callback, or logs one line a minute.

The operation's own thread reads the snapshots, so a busy loop does not freeze the bars; the caller gets the result
after the last line is drawn. A notebook registers its own view (`use_views`).
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TextIO, TypeVar

from gglib_nb.domain.download import DownloadStatus, ShardStatus
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.snapshot import QueuedDownload, QueueSnapshot, ShardProgress
from gglib_nb.domain.text import printable
from gglib_nb.domain.units import amount, duration, percent, rate, size
from gglib_nb.manager.calls import has_given_up, is_awaited

_LOG_EVERY_S: Final = 60.0
_log: Final = logging.getLogger("gglib_nb")

ProgressCallback = Callable[[QueuedDownload], object]
Progress = bool | ProgressCallback | None
"""None: shown unless the Hub's own switch is off. False: nothing. A callback is called, and nothing is drawn."""

_Value = TypeVar("_Value")


class ProgressView(Protocol):
    """Shows one download."""

    @property
    def show(self) -> ProgressCallback:
        """Called after a change, at most ten times a second."""

    def close(self) -> None:
        """The download has ended, or the wait for it was cancelled."""


MakeView = Callable[[], ProgressView | None]
_make_view_of_place: MakeView = lambda: None  # noqa: E731 - replaced by `use_views`


def use_views(make: MakeView) -> None:
    """Sets how this process shows downloads, such as in the cell that waits.

    `make` is called on the thread of the operation for each download; a view of None means standard error.
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

    def guarded(draw: Callable[..., object], *args: QueuedDownload) -> None:
        nonlocal has_failed
        if not has_failed:
            try:
                draw(*args)
            except Exception:  # noqa: BLE001 - the code that draws is not ours
                has_failed = True
                _log.warning("The progress of a download could not be shown", exc_info=True)

    def look() -> None:
        nonlocal last
        if not is_awaited() or has_given_up():  # it would draw over the user's next line
            return
        now = snapshot().downloads.get(str(id_))
        if now is not None and now is not last:
            last = now
            guarded(view.show, now)

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
    if (view := _make_view_of_place()) is not None:
        return view
    stream = sys.stderr
    if not is_open(stream):  # a program without a console
        return None
    return ProgressBars(stream) if is_terminal(stream) else LoggedDownload(stream)


def _is_switched_off() -> bool:
    """The Hub's own switch (`HF_HUB_DISABLE_PROGRESS_BARS`, `disable_progress_bars()`)."""
    from huggingface_hub import constants

    # Only a program that has loaded this module, which takes 50 ms, can have used its switch.
    is_disabled = getattr(sys.modules.get("huggingface_hub.utils.tqdm"), "are_progress_bars_disabled", None)
    return constants.HF_HUB_DISABLE_PROGRESS_BARS is True or (is_disabled is not None and is_disabled())


class _Callback(NamedTuple):
    show: ProgressCallback

    def close(self) -> None:
        pass


class LoggedDownload:
    """One download in a log. All downloads of a stream share one line a minute.

    It is the stream of the code that waits, whatever `sys.stderr` is later. Methods may be called from any thread.
    """

    _lock: ClassVar = threading.Lock()
    _followed: ClassVar[dict["LoggedDownload", str]] = {}
    _next_s: ClassVar = 0.0

    def __init__(self, stream: Any, clock: Callable[[], float] = time.monotonic) -> None:  # noqa: ANN401 - whatever replaced `sys.stderr`
        self.stream: Final = stream
        self._clock: Final = clock

    def show(self, download: QueuedDownload) -> None:
        """Takes its state, and writes if a minute is over."""
        if not (download.status.is_active or download.status.is_pending):
            return
        with self._lock:
            now_s = self._clock()
            if not self._followed:
                LoggedDownload._next_s = now_s + _LOG_EVERY_S
            self._followed[self] = f"{name_of(download)} {', '.join(parts_of(download))}"
            if now_s < self._next_s:
                return
            LoggedDownload._next_s = now_s + _LOG_EVERY_S
            for stream in {id(one.stream): one.stream for one in self._followed}.values():
                said = "; ".join(words for one, words in self._followed.items() if one.stream is stream)
                write_text(stream, f"gglib_nb: {said}\n")

    def close(self) -> None:
        """The download has ended, or the wait for it."""
        with self._lock:
            self._followed.pop(self, None)


# Bars on a terminal ---------------------------------------------------------------------------------------------------

_MOST_FILES: Final = 8
_NARROWEST_BAR: Final = 12
_LONGEST_NAME: Final = 36
_USUAL: Final = (80, 24)
_FETCHING: Final = (DownloadStatus.DOWNLOADING, DownloadStatus.FINALIZING)
_MOVING: Final = (ShardStatus.DOWNLOADING, ShardStatus.VERIFYING)


class ProgressBars:
    """A line for a download, and below it a bar for each active file.

    tqdm handles the rows, the encodings, and several bars at once. Its own rate is not used, because it ignores stalls
    and bytes that were already on the disk.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream
        self._bars: Final[dict[int, Any]] = {}

    def show(self, download: QueuedDownload) -> None:
        """Draws the present state."""
        files = (*download.shards, *download.companions)
        active = [file for file in files if file.status in _MOVING][:_MOST_FILES]
        if len(files) == 1 or download.status not in _FETCHING:
            active = []
        name = name_of(download)
        if len(name) > _LONGEST_NAME:
            name = f"{name[: _LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
        self._drop(self._bars.keys() - {0, *(file.number for file in active)})
        self._draw(0, name, download.downloaded_bytes, download.total_bytes, parts_of(download))
        for file in active:
            title = f"  {file.number}/{len(files)}" if file.kind == "shard" else f"  {file.kind}"
            self._draw(file.number, title, file.downloaded_bytes, file.size_bytes, parts_of_file(file))

    def close(self) -> None:
        """Ends the bars; the download's line keeps its last state."""
        self._drop(self._bars.keys() - {0})
        self._drop(set(self._bars))

    def _drop(self, numbers: set[int]) -> None:
        for number in numbers:
            self._bars.pop(number).close()

    def _draw(self, number: int, title: str, downloaded_bytes: int, total_bytes: int | None, words: list[str]) -> None:
        from tqdm import tqdm

        screen = _size(self._stream)
        while len(words) > 1 and len(f"{title}{', '.join(words)}") > screen.columns - _NARROWEST_BAR:
            words.pop()
        seen: dict[str, Any] = {"unit": ", ".join(words), "ncols": screen.columns, "nrows": screen.lines}
        if number not in self._bars:
            fixed: dict[str, Any] = {"leave": number == 0, "bar_format": "{desc} {bar} {unit}", "mininterval": 0}
            self._bars[number] = tqdm(desc=title, total=total_bytes or None, file=self._stream, **fixed, **seen)
        bar = self._bars[number]
        bar.n = min(downloaded_bytes, bar.total or downloaded_bytes)
        vars(bar).update(seen)
        bar.refresh()


def _size(stream: Any) -> os.terminal_size:  # noqa: ANN401 - whatever replaced `sys.stderr`
    """The columns and lines of a terminal; the usual ones if it does not know them (0 in a container)."""
    with suppress(AttributeError, OSError, ValueError):
        if (size := os.get_terminal_size(stream.fileno())).columns > 0:
            return size
    return os.terminal_size(_USUAL)


# Words ----------------------------------------------------------------------------------------------------------------


def name_of(download: QueuedDownload) -> str:
    """Repository and quantization, without the owner."""
    quantization = f":{download.quantization}" if download.quantization else ""
    return printable(f"{download.display_name}{quantization}")


def parts_of(download: QueuedDownload) -> list[str]:
    """What is known of it, the most important first."""
    if download.status is DownloadStatus.COMPLETED:
        took = "already downloaded" if download.was_present else _known(download.took_s, lambda s: f"in {duration(s)}")
        return [*filter(None, [_known(download.progress, percent), size(download.total_bytes), took])]
    if download.status.is_pending:
        state = f"{download.status}, number {download.position}"
    else:
        state = "" if download.status is DownloadStatus.DOWNLOADING else download.status.value
    parts = [
        _known(download.progress, percent),
        amount(download.downloaded_bytes, download.total_bytes),
        _known(download.bytes_per_second, rate),
        _known(download.eta_seconds, lambda seconds: f"{duration(seconds)} left"),
        printable(download.notice) if download.notice else state,
    ]
    return [*filter(None, parts)]


def parts_of_file(file: ShardProgress) -> list[str]:
    """The same of one of its files."""
    fraction = min(1.0, file.downloaded_bytes / file.size_bytes) if file.size_bytes else None
    state = "verifying" if file.status is ShardStatus.VERIFYING else ""
    return [*filter(None, [_known(fraction, percent), amount(file.downloaded_bytes, file.size_bytes), state])]


def _known(value: _Value | None, say: Callable[[_Value], str]) -> str:
    return "" if value is None else say(value)


# Text streams: a user's logger, another kernel's stream, or a terminal that is not UTF-8 ------------------------------

# What our own texts hold, in ASCII; every other character that an encoding lacks becomes a question mark.
_PLAIN: Final = str.maketrans(
    dict(zip("·—█░★▲▼\N{NO-BREAK SPACE}", "--#.*^v ", strict=True)) | {"…": "...", "✓": "yes:"}
)


def is_terminal(stream: Any) -> bool:  # noqa: ANN401 - whatever replaced `sys.stdout`
    """Whether it is a terminal; False where it cannot say."""
    try:
        return bool(stream.isatty())
    except Exception:  # noqa: BLE001 - it is closed, or any other code that replaced the stream
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
    """Writes a text and flushes it; does nothing without an open stream."""
    if not is_open(stream):
        return
    stream.write(encodable(text, stream))
    if hasattr(stream, "flush"):
        stream.flush()
