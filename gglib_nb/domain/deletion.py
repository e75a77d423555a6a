"""What deleting a model takes from the disk, and what stays. Values; the deed is `gglib_nb.manager.model_files`."""

from gglib_nb.domain.values import Value


class KeptFile(Value, frozen=True):
    """A file of a deleted model that stays.

    Attributes:
        path: Its path.
        reason: Why it stays, as the end of a sentence: `owner/repo:Q8_0 uses it`.
    """

    path: str
    reason: str


class Deletion(Value, frozen=True):
    """The deletion of one model: what was done, or with `dry_run` what would be.

    Attributes:
        id: The model's id; its row goes.
        deleted: Paths of the files that go.
        freed_bytes: What that gives back to the disk; bytes that another name holds too do not count.
        kept: Files that stay.
        is_dry_run: Nothing was done.
    """

    id: str
    deleted: tuple[str, ...]
    freed_bytes: int
    kept: tuple[KeptFile, ...]
    is_dry_run: bool


class DiskUse(Value, frozen=True):
    """How much of the disk the registered models take, and how much is left.

    Attributes:
        models_bytes: Of all their files, each counted once.
        free_bytes: What this user may still write on the filesystem of the models folder; None unknown.
        models_directory: The models folder.
    """

    models_bytes: int
    free_bytes: int | None
    models_directory: str
