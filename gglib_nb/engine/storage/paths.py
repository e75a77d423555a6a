"""What stands beside a target while it is fetched: the names of its partial file, its journal and its lease."""

from pathlib import Path


def part_path(target: Path) -> Path:
    """The partial file of a target."""
    return target.with_name(target.name + ".part")


def journal_path(target: Path) -> Path:
    """The journal of its partial file."""
    return target.with_name(target.name + ".part.journal")


def lease_path(target: Path) -> Path:
    """The lease of its partial file."""
    return target.with_name(target.name + ".part.lease")


def delete_partial(target: Path) -> None:
    """Delete what a partial download of the target left; the target itself stays."""
    for path in (part_path(target), journal_path(target), lease_path(target)):
        path.unlink(missing_ok=True)
