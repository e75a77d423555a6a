"""What all attempts of an engine share."""

from dataclasses import dataclass, field

from gglib_nb.domain.gguf_reuse import ReuseLimits
from gglib_nb.engine.http import Session
from gglib_nb.engine.retry import Connectivity
from gglib_nb.engine.storage.disk_space import DiskSpace
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer.connection_budget import ConnectionBudget
from gglib_nb.engine.transfer.throttle import Throttle


@dataclass
class Resources:
    """Each part is safe to use from any thread; the fields are set by the command loop alone.

    Attributes:
        session: With the hub; replaced when the endpoint or the token changes.
        link_folders: Where an identical file may lie.
        throttle: The bandwidth limit.
        budget: Who may hold how many connections.
        disk_space: What each attempt will still write.
        connectivity: Whether the hub can be reached at all.
        network_wait_s: How long that is waited for before a transfer fails.
        timeouts: How long to wait for what.
        reuse_limits: When tensors that are here are worth comparing, and what that may cost.
    """

    session: Session
    link_folders: tuple[str, ...]
    throttle: Throttle
    budget: ConnectionBudget
    disk_space: DiskSpace
    connectivity: Connectivity
    network_wait_s: float
    timeouts: Timeouts
    reuse_limits: ReuseLimits = field(default_factory=ReuseLimits)
