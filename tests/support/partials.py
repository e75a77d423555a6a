"""Unfinished downloads on the disk, without a download."""

from collections.abc import Sequence
from pathlib import Path

from gglib_nb.domain.download import PlannedFile
from gglib_nb.engine.disk import journal_path
from gglib_nb.engine.journal import Journal, PartIdentity
from gglib_nb.engine.pieces import Pieces, Run


def write_journal(target: Path, size_bytes: int | None = 5, runs: Sequence[Run] = ()) -> None:
    """The sidecar files that mark a partial file as ours."""
    planned = PlannedFile(target.name, size_bytes, "0" * 64, str(target))
    journal = Journal(journal_path(target), (PartIdentity.of(planned, size_bytes, "c" * 40),))
    journal.begin(Pieces(size_bytes, runs))
    journal.close()
