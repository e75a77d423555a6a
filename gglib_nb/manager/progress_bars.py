"""Progress on a terminal: a line for a download, and below it a bar for each active file, drawn by tqdm.

tqdm handles terminals: their width, rows, encodings, and several bars at once. Its own rate is not used, because it ignores
stalls and bytes that were already on the disk.
"""

import os
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TextIO

from tqdm import tqdm
from typing_extensions import override

from gglib_nb.domain.download import DownloadStatus, QueuedDownload, ShardStatus
from gglib_nb.manager.progress import name_of, parts_of, parts_of_file

_MOST_FILES: Final = 8
_NARROWEST_BAR: Final = 12
_LONGEST_NAME: Final = 36
_USUAL: Final = (80, 24)
_FETCHING: Final = (DownloadStatus.DOWNLOADING, DownloadStatus.FINALIZING)
_MOVING: Final = (ShardStatus.DOWNLOADING, ShardStatus.VERIFYING)


class _Row(NamedTuple):
    """What one bar shows; that of the download itself is number 0."""

    number: int
    title: str
    downloaded_bytes: int
    total_bytes: int | None
    words: list[str]


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
        self._bars: Final[dict[int, _Bar]] = {}

    def show(self, download: QueuedDownload) -> None:
        """Draws the present state."""
        rows = list(_rows(download))
        self._drop(self._bars.keys() - {row.number for row in rows})
        for row in rows:
            if row.number not in self._bars:
                self._bars[row.number] = self._new(row)
            bar = self._bars[row.number]
            bar.n = min(row.downloaded_bytes, bar.total or row.downloaded_bytes)
            bar.words = tuple(row.words)
            bar.refresh()

    def close(self) -> None:
        """Ends the bars; the download's line keeps its last state."""
        self._drop(self._bars.keys() - {0})
        self._drop(set(self._bars))

    def _drop(self, numbers: set[int]) -> None:
        for number in numbers:
            self._bars.pop(number).close()

    def _new(self, row: _Row) -> _Bar:
        return _Bar(
            desc=row.title,
            total=row.total_bytes or None,
            file=self._stream,
            leave=row.number == 0,
            **_size(self._stream),
            bar_format="{desc} {bar} {words}",
            mininterval=0,
        )


def _rows(download: QueuedDownload) -> Iterator[_Row]:
    name = name_of(download)
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
    yield _Row(0, name, download.downloaded_bytes, download.total_bytes, parts_of(download))
    files = (*download.shards, *download.companions)
    if len(files) > 1 and download.status in _FETCHING:
        for file in [file for file in files if file.status in _MOVING][:_MOST_FILES]:
            title = f"  {file.number}/{len(files)}" if file.kind == "shard" else f"  {file.kind}"
            yield _Row(file.number, title, file.downloaded_bytes, file.size_bytes, parts_of_file(file))


def _size(stream: TextIO) -> dict[str, Any]:
    """The size of the terminal: read again at each drawing, unless the terminal does not know it (0 in a container)."""
    try:
        is_known = os.get_terminal_size(stream.fileno()).columns > 0
    except (AttributeError, OSError, ValueError):
        is_known = False
    return {"dynamic_ncols": True} if is_known else {"ncols": _USUAL[0], "nrows": _USUAL[1]}
