"""All waiting times of the engine: numbers only, shared by all its parts."""

import json
import re
from collections.abc import Mapping
from typing import Final, Self

from gglib_nb.domain.values import Value

TIMEOUTS_VARIABLE: Final = "GGLIB_ENGINE_TIMEOUTS"
"""A JSON object of the fields below, which overrides them in an engine process, for tests."""

_HUB_VARIABLE: Final = "HF_HUB_DOWNLOAD_TIMEOUT"  # huggingface_hub's: seconds without a byte


class Timeouts(Value, frozen=True):
    """The limits of waiting and trying."""

    connect_s: float = 10.0  # to make a connection
    answer_s: float = 15.0  # for the head of an answer, and for its first byte; `HF_HUB_DOWNLOAD_TIMEOUT` sets it
    stall_s: float = 5.0  # without another byte on a connection before it is replaced
    first_delay_s: float = 0.5  # before the second attempt
    longest_delay_s: float = 30.0  # between two attempts, unless the server asks for more
    longest_asked_s: float = 900.0  # a server that asks for a longer wait ends the transfer
    give_up_s: float = 180.0  # without a new byte, from the first failure on, before the transfer fails
    idle_s: float = 5.0  # how long a connection without a request is kept for the next one
    lease_s: float = 15.0  # without a heartbeat before another process's lease is taken over

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """The defaults, with the overrides of `HF_HUB_DOWNLOAD_TIMEOUT` and of `TIMEOUTS_VARIABLE`, which may raise."""
        named = environ.get(_HUB_VARIABLE, "").strip()
        is_number = re.fullmatch(r"\d{1,6}(\.\d+)?", named, re.ASCII) is not None
        said = {"answer_s": float(named)} if is_number and float(named) > 0 else {}
        return cls(**{**said, **json.loads(environ.get(TIMEOUTS_VARIABLE) or "{}")})
