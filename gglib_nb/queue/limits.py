"""The limits of a queue: how many downloads wait and run, how fast, and in which hours."""

from msgspec.structs import replace

from gglib_nb.domain.stored import StoredLimits
from gglib_nb.domain.units import DailyHours
from gglib_nb.errors import InvalidConfigError


class Limits:
    """Only the machine changes it.

    Attributes:
        max_size: Downloads that may wait.
        max_concurrent: Downloads that run at once on each engine.
        engine_count: Engines that share the work.
        bandwidth_bytes_per_second: Of everything together; None: unlimited.
        hours: When downloads run; None: at any time. `is_open`: whether it is such an hour.
        set_by_user: The limits that are kept after the kernel ends.
    """

    def __init__(
        self,
        max_size: int,
        max_concurrent: int,
        bandwidth_bytes_per_second: int | None,
        hours: DailyHours | None,
        *,
        is_open: bool,
    ) -> None:
        _check_count("max_queue_size", max_size)
        self.max_size = max_size
        self.set_concurrency(max_concurrent)
        self.engine_count = 1
        self.bandwidth_bytes_per_second = bandwidth_bytes_per_second
        self.hours, self.is_open = hours, is_open
        self.set_by_user = StoredLimits()

    @property
    def slots(self) -> int:
        """Downloads that run at once on all engines."""
        return self.max_concurrent * self.engine_count

    @property
    def opens_at(self) -> str | None:
        """When downloads run again; None: they run now."""
        return None if self.is_open or self.hours is None else f"{self.hours.start:%H:%M}"

    def set_size(self, max_size: int) -> None:
        """Changes how many downloads may wait; waiting ones stay."""
        _check_count("max_queue_size", max_size)
        self.max_size = max_size
        self.set_by_user = replace(self.set_by_user, max_size=max_size)

    def set_concurrency(self, max_concurrent: int) -> None:
        """Changes how many downloads run at once; running ones continue."""
        _check_count("max_concurrent", max_concurrent)
        self.max_concurrent = max_concurrent

    def set_bandwidth(self, bytes_per_second: int | None) -> None:
        """Changes the bandwidth limit."""
        if bytes_per_second is not None:
            _check_count("The bandwidth limit in bytes per second", bytes_per_second)
        self.bandwidth_bytes_per_second = bytes_per_second
        self.set_by_user = replace(
            self.set_by_user, has_bandwidth_limit=True, bandwidth_limit_bytes_per_second=bytes_per_second
        )


def _check_count(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise InvalidConfigError(f"{name} must be a whole number of at least 1, not {value!r}.")
