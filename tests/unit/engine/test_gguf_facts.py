"""The headers of shards decide whether they are one set."""

import pytest

from gglib_nb.domain.download import StoredFile
from gglib_nb.engine.local import check_split_set, read_facts
from gglib_nb.errors import IncompleteShardSetError
from tests.support.gguf_files import Held, gguf_bytes


def shard(
    no: int,
    count: int | None = 3,
    *,
    tensors: int = 2,
    all_tensors: int = 6,
    kind: str = "shard",
    architecture: str | None = None,
) -> StoredFile:
    facts = {"split_no": no, "split_count": count, "tensor_count": tensors, "split_tensors_count": all_tensors}
    facts |= {"architecture": architecture or ("llama" if no == 0 else None)}
    return StoredFile(f"/m-{no}.gguf", f"m-{no}.gguf", kind, 1, None, False, 0, False, facts)


def test_a_complete_set_is_valid_in_any_order() -> None:
    check_split_set([shard(2), shard(0), shard(1)])


def test_files_that_are_not_shards_are_not_checked() -> None:
    single = StoredFile("/m.gguf", "m.gguf", "shard", 1, None, False, 0, False, {"split_count": None})

    check_split_set([single, shard(1, kind="mmproj")])


def test_missing_shards_are_named_by_their_one_based_numbers() -> None:
    with pytest.raises(IncompleteShardSetError) as raised:
        check_split_set([shard(1)])

    assert raised.value.missing == (1, 3)


@pytest.mark.parametrize(
    "files",
    [
        [shard(0), shard(1), shard(2), shard(2)],
        [shard(0), shard(1), shard(2, tensors=3)],
        [shard(0), shard(1), shard(2, all_tensors=7)],
        [shard(0), shard(1), shard(2, 2)],
        [shard(0, None), shard(1, None)],
        [shard(0), shard(1), shard(2, None)],
        [shard(0), shard(1, architecture="qwen3"), shard(2)],
        [shard(0, 2), shard(1, 3)],
    ],
    ids=[
        "twice the same",
        "too many tensors",
        "another set's total",
        "another set's count",
        "no shards",
        "one is no shard",
        "another architecture",
        "counts of two sets",
    ],
)
def test_shards_of_different_sets_are_refused(files) -> None:
    with pytest.raises(IncompleteShardSetError):
        check_split_set(files)


@pytest.mark.parametrize("shards", ["ab bc", "ab cc"], ids=["of two shards", "of one shard"])
def test_shards_with_a_duplicate_tensor_are_refused(tmp_path, shards: str) -> None:
    files = []
    for number, names in enumerate(shards.split()):
        path = tmp_path / f"m-{number}.gguf"
        path.write_bytes(gguf_bytes([Held(name, b"data") for name in names]))
        facts = {"split_no": number, "split_count": 2, "tensor_count": 2, "split_tensors_count": 4}
        files.append(StoredFile(str(path), path.name, "shard", path.stat().st_size, None, False, 0, False, facts))

    with pytest.raises(IncompleteShardSetError):
        check_split_set(files)


def test_a_file_that_is_not_gguf_has_no_facts(tmp_path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"nothing")

    assert read_facts(tmp_path / "x.gguf") == {}
    assert read_facts(tmp_path / "none.gguf") == {}
