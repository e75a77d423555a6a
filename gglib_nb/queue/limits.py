"""The limits of a queue: how many downloads wait and run, how fast, and in which hours."""

from gglib_nb.domain.units import DailyHours, check_count
from gglib_nb.domain.values import Value


class Limits(Value, frozen=True):
    """An invalid one raises `InvalidConfigError`.

    Attributes:
        max_size: Downloads that may wait.
        max_concurrent: Downloads that run at once on each engine.
        bandwidth_bytes_per_second: Of everything together; None: unlimited.
        hours: When downloads run; None: at any time.
        is_open: Whether it is such an hour.
        engine_count: Engines that share the work.
    """

    max_size: int
    max_concurrent: int
    bandwidth_bytes_per_second: int | None
    hours: DailyHours | None
    is_open: bool
    engine_count: int = 1

    def __post_init__(self) -> None:
        bandwidth = 1 if self.bandwidth_bytes_per_second is None else self.bandwidth_bytes_per_second
        check_count("max_queue_size", self.max_size)
        check_count("max_concurrent", self.max_concurrent)
        check_count("The bandwidth limit in bytes per second", bandwidth)

    @property
    def slots(self) -> int:
        """Downloads that run at once on all engines."""
        return self.max_concurrent * self.engine_count

    @property
    def opens_at(self) -> str | None:
        """When downloads run again; None: they run now."""
        return None if self.is_open or self.hours is None else f"{self.hours.start:%H:%M}"
