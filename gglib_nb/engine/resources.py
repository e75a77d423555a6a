"""What all transfers of an engine share."""

from dataclasses import dataclass

from gglib_nb.engine.budget import ConnectionBudget
from gglib_nb.engine.retry import Patience
from gglib_nb.engine.room import Room
from gglib_nb.engine.throttle import Throttle
from gglib_nb.engine.web import Web


@dataclass
class Resources:
    """Each part is safe to use from any thread; the fields are set by the command loop alone.

    Attributes:
        web: The way to the hub; replaced when the endpoint or the token changes.
        link_folders: Where an identical file may lie.
        throttle: The bandwidth limit.
        budget: Who may hold how many connections.
        room: Who will write how much.
        patience: How long to wait for what.
    """

    web: Web
    link_folders: tuple[str, ...]
    throttle: Throttle
    budget: ConnectionBudget
    room: Room
    patience: Patience
