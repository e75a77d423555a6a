"""Values: Structs that `dataclasses`, and so pandas, accept; cheap to define."""

import dataclasses
import pickle

import pytest
from msgspec import field

from gglib_nb import DownloadRequest
from gglib_nb.domain.values import Value


class Inner(Value, frozen=True):
    number: int = 3


class Outer(Value, frozen=True):
    name: str
    inner: Inner = Inner()
    names: list[str] = field(default_factory=list)


def test_a_value_supports_replace_equality_and_asdict_like_a_dataclass() -> None:
    value = Outer("a")

    assert dataclasses.is_dataclass(value)
    assert dataclasses.replace(value, name="b") == Outer("b")
    assert [one.name for one in dataclasses.fields(value)] == ["name", "inner", "names"]
    assert dataclasses.asdict(value) == {"name": "a", "inner": {"number": 3}, "names": []}
    assert dataclasses.fields(Outer)[1].default == Inner()


def test_a_value_is_immutable_and_can_be_pickled() -> None:
    value = DownloadRequest("owner/repo")

    with pytest.raises(AttributeError):
        value.repo_id = "other/repo"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(value)) == value
    assert len({value, DownloadRequest("owner/repo")}) == 1


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError):
        dataclasses.replace(Outer("a"), colour="red")
