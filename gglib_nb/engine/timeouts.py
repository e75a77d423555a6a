"""How long the engine waits for what, and how often it tries: numbers only, the same for every part of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

TIMEOUTS_VARIABLE: Final = "GGLIB_ENGINE_TIMEOUTS"
"""Other numbers for an engine process, as a JSON object of the fields below: tests have no minutes to wait."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The limits of waiting and trying.

    Attributes:
        connect_s: For a connection to be made.
        answer_s: For the first byte of an answer.
        stall_s: Without another byte on a connection before it is made anew.
        first_delay_s: Before the second try.
        longest_delay_s: Between two tries, unless the server asks for more.
        longest_asked_s: A server that asks to wait longer ends the transfer.
        tries: Failures in a row without a new byte before the transfer fails.
        resolves: Refused signed URLs in a row without a new byte before the transfer fails.
        lease_s: Without a sign of life before another process's lease is taken over.
    """

    connect_s: float = 10.0
    answer_s: float = 15.0
    stall_s: float = 5.0
    first_delay_s: float = 0.5
    longest_delay_s: float = 30.0
    longest_asked_s: float = 900.0
    tries: int = 12
    resolves: int = 4
    lease_s: float = 15.0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """The usual ones, but for what `TIMEOUTS_VARIABLE` says.

        Raises:
            TypeError: It names another field.
            ValueError: It is no JSON object.
        """
        return cls(**json.loads(environ.get(TIMEOUTS_VARIABLE) or "{}"))
