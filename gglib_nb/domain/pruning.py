"""Which models to delete to free space: those unused for longest first."""

from collections.abc import Sequence

from gglib_nb.domain.values import Value


class ModelUse(Value, frozen=True):
    """The use of one model.

    Attributes:
        size_bytes: Bytes that deleting it frees; files that other models share or that have another hard link do not
            count.
        last_used_at_s: Unix time of its last known use, else of its registration.
        is_kept: It must not be deleted: it is queued, being updated, or stored outside of the models folder.
    """

    id: str
    size_bytes: int
    last_used_at_s: float
    is_kept: bool = False


class UnfinishedDownload(Value, frozen=True):
    """The partial files of an abandoned download of `path`: their size, and the Unix time of the last write."""

    path: str
    size_bytes: int
    changed_at_s: float


class PrunePlan(Value, frozen=True):
    """What pruning would delete; nothing has been deleted yet.

    Attributes:
        models: To delete, the one unused for longest first.
        unfinished: Abandoned downloads to delete.
        kept_bytes: Size of the rest.
        missing_bytes: How much more would have to be deleted to reach the requested size; the rest is kept. 0: reached.
    """

    models: tuple[ModelUse, ...]
    unfinished: tuple[UnfinishedDownload, ...]
    kept_bytes: int
    missing_bytes: int

    @property
    def freed_bytes(self) -> int:
        """What deleting all of it frees."""
        return sum(model.size_bytes for model in self.models) + sum(one.size_bytes for one in self.unfinished)

    def __bool__(self) -> bool:
        """Whether there is anything to delete."""
        return bool(self.models or self.unfinished)


def plan_pruning(
    models: Sequence[ModelUse],
    unfinished: Sequence[UnfinishedDownload],
    now_s: float,
    *,
    keep_bytes: int | None = None,
    unused_s: float | None = None,
) -> PrunePlan:
    """Choose what to delete.

    Abandoned downloads always go first. `unused_s` selects the models, and limits the abandoned downloads to those,
    that were unused for that long; `keep_bytes` selects models, those unused for longest first, until the rest is no
    larger. With both, both hold.

    Args:
        models: All registered models.
        unfinished: Downloads that are in no kernel's queue.
        now_s: Unix time.
        keep_bytes: What all models together may take.
        unused_s: Seconds without use.
    """
    old = [one for one in unfinished if unused_s is None or now_s - one.changed_at_s >= unused_s]
    by_age = sorted(models, key=lambda model: (model.last_used_at_s, model.id))
    chosen = [model for model in by_age if unused_s is not None and now_s - model.last_used_at_s >= unused_s]
    chosen = [model for model in chosen if not model.is_kept]
    left_bytes = sum(model.size_bytes for model in models) - sum(model.size_bytes for model in chosen)
    left_bytes += sum(one.size_bytes for one in unfinished) - sum(one.size_bytes for one in old)
    for model in by_age:
        if keep_bytes is None or left_bytes <= keep_bytes:
            break
        if not model.is_kept and model not in chosen and model.size_bytes > 0:
            chosen.append(model)
            left_bytes -= model.size_bytes
    missing_bytes = 0 if keep_bytes is None else max(0, left_bytes - keep_bytes)
    return PrunePlan(tuple(sorted(chosen, key=by_age.index)), tuple(old), left_bytes, missing_bytes)
