"""Progress on a terminal: a line for a download, and below it a bar for each active file, drawn by tqdm.

tqdm handles terminals: their width, rows, encodings, and several bars at once. Its own rate is not used, because it ignores
stalls and bytes that were already on the disk.
"""

import os
from typing import Any, Final, TextIO

from tqdm import tqdm
from typing_extensions import override

from gglib_nb.domain.download import DownloadStatus, QueuedDownload, ShardProgress
from gglib_nb.manager.progress import is_moving, name_of, parts_of, parts_of_file

_MOST_FILES: Final = 8
_NARROWEST_BAR: Final = 12
_LONGEST_NAME: Final = 36
_USUAL: Final = (80, 24)


class _Bar(tqdm):  # type: ignore[type-arg]  # generic in its stub only
    """A bar followed by our words, as many as fit."""

    words: tuple[str, ...] = ()

    @property
    @override
    def format_dict(self) -> dict[str, Any]:
        known = super().format_dict
        room = (known["ncols"] or _USUAL[0]) - len(known["prefix"] or "") - _NARROWEST_BAR
        words = list(self.words)
        while len(words) > 1 and len(", ".join(words)) > room:
            words.pop()
        return {**known, "words": ", ".join(words)}


class ProgressBars:
    """The bars of one download."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream
        self._bar: _Bar | None = None
        self._files: Final[dict[int, _Bar]] = {}

    def show(self, download: QueuedDownload) -> None:
        """Draws the present state."""
        if self._bar is None:
            self._bar = self._new(_clipped(name_of(download)), download.total_bytes, leave=True)
        self._draw_files(download)
        _draw(self._bar, download.downloaded_bytes, parts_of(download))

    def close(self) -> None:
        """Ends the bars; the download's line keeps its last state."""
        self._drop_files(keeping=set())
        if self._bar is not None:
            self._bar.close()

    def _draw_files(self, download: QueuedDownload) -> None:
        files = (*download.shards, *download.companions)
        is_fetching = download.status in (DownloadStatus.DOWNLOADING, DownloadStatus.FINALIZING)
        moving = [file for file in files if is_moving(file)] if len(files) > 1 and is_fetching else []
        shown = moving[:_MOST_FILES]
        self._drop_files(keeping={file.number for file in shown})
        for file in shown:
            if file.number not in self._files:
                self._files[file.number] = self._new(f"  {_title(file, len(files))}", file.size_bytes, leave=False)
            _draw(self._files[file.number], file.downloaded_bytes, parts_of_file(file))

    def _drop_files(self, keeping: set[int]) -> None:
        for number in self._files.keys() - keeping:
            self._files.pop(number).close()

    def _new(self, title: str, total_bytes: int | None, *, leave: bool) -> _Bar:
        return _Bar(
            desc=title,
            total=total_bytes or None,
            file=self._stream,
            leave=leave,
            **_size(self._stream),
            bar_format="{desc} {bar} {words}",
            mininterval=0,
        )


def _size(stream: TextIO) -> dict[str, Any]:
    """The size of the terminal: read again at each drawing, unless the terminal does not know it (0 in a container)."""
    try:
        is_known = os.get_terminal_size(stream.fileno()).columns > 0
    except (AttributeError, OSError, ValueError):
        is_known = False
    return {"dynamic_ncols": True} if is_known else {"ncols": _USUAL[0], "nrows": _USUAL[1]}


def _draw(bar: _Bar, downloaded_bytes: int, words: list[str]) -> None:
    bar.n, bar.words = min(downloaded_bytes, bar.total or downloaded_bytes), tuple(words)
    bar.refresh()


def _title(file: ShardProgress, count: int) -> str:
    return f"{file.number}/{count}" if file.kind == "shard" else file.kind


def _clipped(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
