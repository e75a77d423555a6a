"""What the GGUF headers of stored files say, and whether a split set is whole.

A file that is no GGUF has no facts; that is not an error of a transfer, whose promise is the bytes.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.file_names import FileName
from gglib_nb.domain.gguf_header import GgufHeader
from gglib_nb.errors import GgufError, IncompleteShardSetError
from gglib_nb.system import read_at

Facts = dict[str, str | int | float | bool | None]


def read_facts(path: Path) -> Facts:
    """The header's facts; empty where the file is no GGUF that can be read."""
    from gglib_nb.domain.gguf import header_facts, read_header

    with contextlib.suppress(OSError, GgufError), path.open("rb", buffering=0) as file:
        descriptor = file.fileno()
        header = read_header(lambda offset, length: read_at(descriptor, length, offset), path.stat().st_size)
        return header_facts(header)
    return {}


def check_split_set(files: Sequence[StoredFile]) -> None:
    """Whether the shards are one split model, by their headers: `split.*`, the architecture, and the names of the tensors.

    Raises:
        IncompleteShardSetError: One is missing, or belongs to another set, or a program could not load the set.
    """
    readable = [file for file in files if file.kind == "shard" and file.facts]
    shards = [file for file in readable if _number(file, "split_count") > 1]
    if len(shards) < len(readable) > 1:
        raise IncompleteShardSetError("The files are no shards of one model by their headers; queue another variant.")
    if not shards:
        return
    counts = {_number(shard, "split_count") for shard in shards}
    expected = range(max(counts))
    numbers = [_number(shard, "split_no") for shard in shards]
    missing = tuple(number + 1 for number in expected if number not in numbers)
    if missing:
        names = ", ".join(map(str, missing))
        raise IncompleteShardSetError(
            f"Shards {names} of {len(expected)} are missing, by the headers of the others; queue the whole set.",
            missing=missing,
        )
    tensors = {_number(shard, "split_tensors_count") for shard in shards} - {0}
    architectures = {shard.facts.get("architecture") for shard in shards} - {None}
    is_one_set = len(counts) == 1 and sorted(numbers) == list(expected) and len(tensors) <= 1 >= len(architectures)
    if (
        not is_one_set
        or _has_tensor_twice(shards)
        or (tensors and tensors != {sum(_number(shard, "tensor_count") for shard in shards)})
    ):
        raise IncompleteShardSetError("The shards belong to different models by their headers; queue another variant.")


def refuse_stray_shard(name: FileName, header: GgufHeader) -> None:
    """Whether a file is the shard that its name says, or none where its name says none.

    Raises:
        IncompleteShardSetError: It is another one, so that no program could load the set.
    """
    number, total = (name.split.number, name.split.total) if name.split else (1, 1)
    count = header.split_count or 1
    if count != total or (count > 1 and header.split_no != number - 1):
        raise IncompleteShardSetError(
            f"{name.path} is shard {(header.split_no or 0) + 1} of {count} by its header, not {number} of {total} as its "
            "name says, so nothing could load it; queue another variant."
        )


def _has_tensor_twice(shards: Sequence[StoredFile]) -> bool:
    from gglib_nb.domain.gguf import tensor_names

    names: list[str] = []
    for shard in shards:
        with contextlib.suppress(OSError, GgufError), open(shard.target, "rb", buffering=0) as file:  # noqa: PTH123
            descriptor = file.fileno()
            names += tensor_names(lambda offset, length: read_at(descriptor, length, offset), shard.size_bytes)  # noqa: B023
    return len(set(names)) < len(names)


def _number(file: StoredFile, name: str) -> int:
    value = file.facts.get(name)
    return value if isinstance(value, int) else 0
