"""What this kernel has shown of repositories, so that rows can be named by number and Tab can complete.

Memory only, filled by the verbs as they answer; nothing is asked of anybody.
"""

from collections.abc import Iterable

from gglib_nb.domain.references import DownloadId


class Recall:
    """What was seen, in the order it was seen.

    Attributes:
        rows: What the numbers of the last search or plan stand for.
        models: Ids of the last table of models; empty before the first.
    """

    def __init__(self) -> None:
        self.rows: tuple[DownloadId, ...] = ()
        self.models: tuple[str, ...] = ()
        self._seen: dict[DownloadId, None] = {}

    @property
    def seen(self) -> tuple[DownloadId, ...]:
        """Repositories and variants that were seen, each once."""
        return tuple(self._seen)

    def showed(self, rows: Iterable[DownloadId]) -> None:
        """A table was shown; its rows can be named by number from now on."""
        self.rows = tuple(rows)
        for id_ in self.rows:
            self.saw(id_)

    def saw(self, id_: DownloadId) -> None:
        """A repository or a variant was named."""
        self._seen[DownloadId(id_.repo_id)] = None
        self._seen[id_] = None
