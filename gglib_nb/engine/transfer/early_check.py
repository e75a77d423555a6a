"""Looks at the headers of shards and single files as soon as they have arrived: a set that no program could load ends at once.

`check_split_set` sees the same when all bytes are there, which for a large model is hours later.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.gguf import read_header
from gglib_nb.engine.storage.gguf_facts import refuse_stray_shard
from gglib_nb.engine.transfer.target import Target
from gglib_nb.errors import GgufError
from gglib_nb.system import read_at

# A header with a vocabulary has some megabytes; each look costs the reading of what has arrived of it.
_FIRST_LOOK_BYTES: Final = 256 * 1024
_LOOKS_GROW: Final = 4
_LAST_LOOK_BYTES: Final = 64 * 1024**2


class EarlyCheck:
    """Of the files of one attempt, those whose headers have not been seen yet."""

    def __init__(self, targets: Sequence[Target]) -> None:
        single = (target for target in targets if len(target.parts) == 1 and target.parts[0].planned.kind == "shard")
        self._next_bytes = dict.fromkeys(single, _FIRST_LOOK_BYTES)

    def look(self) -> None:
        """Read the headers that may have arrived.

        Raises:
            IncompleteShardSetError: One is not the shard that its name says, or a shard where its name says none.
        """
        for target, wanted_bytes in list(self._next_bytes.items()):
            reach = 0 if target.partial is None else target.done.reach(0)
            if reach >= wanted_bytes:
                self._look_at(target, reach)

    def _look_at(self, target: Target, reach: int) -> None:
        assert target.partial is not None  # noqa: S101  # something of it has arrived
        self._next_bytes[target] = reach * _LOOKS_GROW
        try:
            with target.partial.path.open("rb", buffering=0) as file:
                read = partial(_read_reached, file.fileno(), reach)
                header = read_header(read, target.size_bytes or reach)
        except FileNotFoundError:  # all of it has arrived, and it is about to get its final name
            del self._next_bytes[target]
            return
        except GgufError:
            if reach > _LAST_LOOK_BYTES:
                del self._next_bytes[target]
            return
        del self._next_bytes[target]
        refuse_stray_shard(parse_path(target.parts[0].planned.path_in_repo), header)


def _read_reached(descriptor: int, reach: int, offset: int, length: int) -> bytes:
    return read_at(descriptor, max(0, min(length, reach - offset)), offset)
