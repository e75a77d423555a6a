"""What a script's terminal and log say of a download: how far, how fast, how long, in few words. Pure."""

from collections.abc import Iterator

from gglib_nb.domain.download import DownloadStatus, QueuedDownload, ShardProgress, ShardStatus
from gglib_nb.domain.units import duration, percent, rate, size


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
    if download.started_at_s is None or download.ended_at_s is None:
        return ""
    return f"in {duration(download.ended_at_s - download.started_at_s)}"


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
