"""Whether shards are one set is asked of their own headers."""

import pytest

from gglib_nb.domain.download import StoredFile
from gglib_nb.engine.storage.gguf_facts import check_split_set, read_facts
from gglib_nb.errors import IncompleteShardSetError


def shard(no: int, count: int = 3, *, tensors: int = 2, all_tensors: int = 6, kind: str = "shard") -> StoredFile:
    facts = {"split_no": no, "split_count": count, "tensor_count": tensors, "split_tensors_count": all_tensors}
    return StoredFile(f"/m-{no}.gguf", f"m-{no}.gguf", kind, 1, None, False, 0, False, facts)


def test_a_whole_set_is_right_in_any_order() -> None:
    check_split_set([shard(2), shard(0), shard(1)])


def test_files_that_are_no_shards_are_not_asked() -> None:
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
    ],
    ids=["twice the same", "too many tensors", "another set's total", "another set's count"],
)
def test_shards_of_different_sets_are_refused(files) -> None:
    with pytest.raises(IncompleteShardSetError):
        check_split_set(files)


def test_a_file_that_is_no_gguf_has_no_facts(tmp_path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"nothing")

    assert read_facts(tmp_path / "x.gguf") == {}
    assert read_facts(tmp_path / "none.gguf") == {}
