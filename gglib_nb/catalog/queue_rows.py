"""A queue's downloads as JSON and back. Pure: no database, no disk.

Targets are kept relative to the models folder and checked on their way back, so that no row, whoever wrote it, leads a
download out of the folder. Tokens and signed addresses have no field here.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gglib_nb.domain.download import DownloadStatus, ElsewhereDownload, PlannedDownload, PlannedFile, QueuedDownload
from gglib_nb.domain.places import target_path
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.stored_queue import StoredDownload, StoredLimits
from gglib_nb.errors import RequestError, from_wire, to_wire


def is_below(plan: PlannedDownload, models_directory: Path) -> bool:
    """Whether everything that a download writes is below the models folder."""
    return all(Path(target).is_relative_to(models_directory) for target in plan.targets)


def download_to_json(stored: StoredDownload, models_directory: Path) -> str:
    """One download as it is kept."""
    plan = stored.plan
    return json.dumps(
        {
            "id": _id_values(plan.id),
            "commit_sha": plan.commit_sha,
            "label": plan.label,
            "files": [_file_values(file, models_directory) for file in plan.files],
            "reason": plan.reason,
            "force": plan.force,
            "add_to_db": plan.add_to_db,
            "companions": plan.companions,
            "replaces": plan.replaces,
            "donors": plan.donors,
            "everywhere": plan.everywhere,
            "is_update": plan.is_update,
            "keeps_old": plan.keeps_old,
            "status": stored.status.value,
            "was_active": stored.was_active,
            "aliases": [_id_values(alias) for alias in stored.aliases],
            "queued_at_s": stored.queued_at_s,
            "started_at_s": stored.started_at_s,
            "ended_at_s": stored.ended_at_s,
            "error": None if stored.error is None else to_wire(stored.error),
            "can_retry": stored.can_retry,
        }
    )


def download_from_json(text: str, models_directory: Path) -> StoredDownload:
    """The download that was kept.

    Raises:
        ValueError: It is none, or leads out of the models folder.
    """
    try:
        values = json.loads(text)
        id_ = DownloadId(*values["id"])
        plan = PlannedDownload(
            id=id_,
            commit_sha=str(values["commit_sha"]),
            label=values["label"],
            files=tuple(_file(file, id_.repo_id, models_directory) for file in values["files"]),
            reason=values["reason"],
            force=bool(values["force"]),
            add_to_db=bool(values["add_to_db"]),
            companions=tuple(values["companions"]),
            replaces=bool(values.get("replaces", False)),
            donors=tuple(values.get("donors", ())),
            everywhere=bool(values.get("everywhere", False)),
            is_update=bool(values.get("is_update", False)),
            keeps_old=bool(values.get("keeps_old", False)),
        )
        return StoredDownload(
            plan=plan,
            status=_status_at_rest(values["status"]),
            was_active=bool(values["was_active"]),
            aliases=tuple(DownloadId(*alias) for alias in values["aliases"]),
            queued_at_s=float(values["queued_at_s"]),
            started_at_s=values["started_at_s"],
            ended_at_s=values["ended_at_s"],
            error=None if values["error"] is None else from_wire(values["error"]),
            can_retry=bool(values["can_retry"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, RequestError) as error:
        raise ValueError("not a download that was kept") from error


def limits_to_json(limits: StoredLimits) -> str:
    """The limits that were set by hand, and only those."""
    values: dict[str, int | None] = {}
    if limits.max_size is not None:
        values["max_size"] = limits.max_size
    if limits.has_bandwidth_limit:
        values["bandwidth_limit_bytes_per_second"] = limits.bandwidth_limit_bytes_per_second
    return json.dumps(values)


def limits_from_json(text: str) -> StoredLimits:
    """The same back; what cannot be a limit counts as not set."""
    try:
        values = json.loads(text)
        size, rate = values.get("max_size"), values.get("bandwidth_limit_bytes_per_second")
    except (ValueError, AttributeError):
        return StoredLimits()
    is_set = "bandwidth_limit_bytes_per_second" in values and (rate is None or _is_count(rate))
    return StoredLimits(size if _is_count(size) else None, is_set, rate if is_set else None)


def progress_to_json(items: Iterable[QueuedDownload]) -> str:
    """What other kernels may show of live downloads."""
    return json.dumps(
        [
            {
                "id": _id_values(item.id),
                "commit_sha": item.commit_sha,
                "status": item.status.value,
                "downloaded_bytes": item.downloaded_bytes,
                "total_bytes": item.total_bytes,
                "bytes_per_second": item.bytes_per_second,
                "eta_seconds": item.eta_seconds,
                "notice": item.notice,
            }
            for item in items
        ]
    )


def progress_from_json(text: str, owner: str, *, is_left: bool) -> tuple[ElsewhereDownload, ...]:
    """The same back, as downloads of `owner`; empty where it cannot be read."""
    try:
        return tuple(
            ElsewhereDownload(
                owner=owner,
                is_left=is_left,
                id=DownloadId(*one["id"]),
                commit_sha=one["commit_sha"],
                status=DownloadStatus(one["status"]),
                downloaded_bytes=int(one["downloaded_bytes"]),
                total_bytes=one["total_bytes"],
                bytes_per_second=None if is_left else one["bytes_per_second"],
                eta_seconds=None if is_left else one["eta_seconds"],
                notice=None if is_left else one["notice"],
            )
            for one in json.loads(text)
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()


def _id_values(id_: DownloadId) -> list[str | None]:
    return [id_.repo_id, id_.quantization, id_.revision]


def _file_values(file: PlannedFile, models_directory: Path) -> list[Any]:
    relative = Path(file.target).relative_to(models_directory).as_posix()
    return [
        *(file.path_in_repo, file.size_bytes, file.sha256, relative),
        *(file.offset_bytes, file.kind, file.known_mtime_ns, file.wrong_ranges),
    ]


def _file(values: list[Any], repo_id: str, models_directory: Path) -> PlannedFile:
    path, size_bytes, sha256, relative, offset_bytes, kind, known_mtime_ns, *later = values
    wrong = next(iter(later), None)
    if not relative.startswith(f"{repo_id}/"):
        raise ValueError("a target outside of its repository's folder")
    target = target_path(models_directory, repo_id, relative.removeprefix(f"{repo_id}/"))
    wrong_ranges = None if wrong is None else tuple((int(start), int(end)) for start, end in wrong)
    return PlannedFile(path, size_bytes, sha256, str(target), offset_bytes, kind, known_mtime_ns, wrong_ranges)


def _status_at_rest(value: str) -> DownloadStatus:
    status = DownloadStatus(value)
    if status not in (DownloadStatus.QUEUED, DownloadStatus.PAUSED, DownloadStatus.FAILED):
        raise ValueError("a status that nothing rests in")
    return status


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1
