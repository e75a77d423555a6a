"""Whether shards are one split model, by what their headers say of the set (`split.*`)."""

from collections.abc import Sequence

from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.gguf_header import GgufHeader
from gglib_nb.errors import IncompleteShardSetError


def shards_of_one_set(files: Sequence[StoredFile]) -> list[StoredFile]:
    """The shards among these files, which are one complete set; none if they are a single model.

    Raises:
        IncompleteShardSetError: One is missing, or belongs to another set, or no program could load the set.
    """
    readable = [file for file in files if file.kind == "shard" and file.facts]
    shards = [file for file in readable if _number(file, "split_count") > 1]
    if not shards and len(readable) <= 1:
        return []
    counts = {_number(shard, "split_count") for shard in shards}
    numbers = {_number(shard, "split_no") + 1 for shard in shards}
    missing = tuple(number for number in range(1, max(counts, default=0) + 1) if number not in numbers)
    if missing and len(shards) == len(readable):
        raise IncompleteShardSetError(
            f"Shards {', '.join(map(str, missing))} of {max(counts)} are missing, according to the headers of the others. "
            "Download the whole set.",
            missing=missing,
        )
    tensors = {_number(shard, "split_tensors_count") for shard in shards} - {0}
    architectures = {shard.fact("architecture", str) for shard in shards} - {None}
    is_one_set = counts == {len(readable)} == {len(shards)} and len(tensors) <= 1 >= len(architectures)
    if not is_one_set or (tensors and tensors != {sum(_number(shard, "tensor_count") for shard in shards)}):
        raise not_one_set()
    return shards


def not_one_set() -> IncompleteShardSetError:
    """The error for shards of several models."""
    return IncompleteShardSetError(
        "According to their headers, the files are not shards of one model. Choose another variant."
    )


def refuse_stray_shard(path: str, header: GgufHeader) -> None:
    """Raises `IncompleteShardSetError` if a header numbers its shard otherwise than its path: no program could load the set."""
    split = parse_path(path).split
    number, total = (split.number, split.total) if split else (1, 1)
    count = header.split_count or 1
    if count != total or (count > 1 and header.split_no != number - 1):
        raise IncompleteShardSetError(
            f"{path} is shard {(header.split_no or 0) + 1} of {count} by its header, not {number} of {total} as its "
            "name says, so nothing could load it; queue another variant."
        )


def _number(file: StoredFile, name: str) -> int:
    return file.fact(name, int) or 0
