"""Unfinished downloads on the disk, without a download."""

from pathlib import Path

from gglib_nb.domain.download import PlannedFile
from gglib_nb.engine.disk import journal_path
from gglib_nb.engine.journal import Journal, PartIdentity
from gglib_nb.engine.pieces import Pieces


def write_journal(target: Path) -> None:
    """The sidecar files that mark a partial file as ours."""
    planned = PlannedFile(target.name, 5, "0" * 64, str(target))
    journal = Journal(journal_path(target), (PartIdentity.of(planned, 5, "c" * 40),))
    journal.begin(Pieces(5))
    journal.close()
