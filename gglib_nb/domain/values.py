"""The base of our values: a frozen msgspec Struct that the functions of `dataclasses` accept as well.

Three hundred frozen dataclasses were most of a cold start. `dataclasses.replace`, `fields` and `asdict`, and so
`pandas.DataFrame(rows)`, look for `__dataclass_fields__`; a value makes that when it is first needed.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from gglib_nb.errors import GglibError, from_wire, to_wire


class _DataclassFields:
    """The attribute by which `dataclasses` recognizes a dataclass, made from the fields of the Struct."""

    def __get__(self, _value: object, kind: type[Struct]) -> dict[str, Any]:
        if kind not in _made:
            import dataclasses

            def made(one: Any) -> tuple[str, Any, Any]:  # noqa: ANN401 - msgspec's description of a field
                given = {name: getattr(one, name) for name in ("default", "default_factory")}
                known = {name: value for name, value in given.items() if value is not NODEFAULT}
                return one.name, one.type, dataclasses.field(**known)

            twin: Any = dataclasses.make_dataclass(kind.__name__, map(made, fields(kind)), kw_only=True)
            _made[kind] = twin.__dataclass_fields__
        return _made[kind]


_made: dict[type[Struct], dict[str, Any]] = {}


def known_sum(amounts: Iterable[int | None]) -> int | None:
    """The sum of amounts; None: one is unknown."""
    found = list(amounts)
    return None if None in found else sum(filter(None, found))


def plain(value: object) -> str | dict[str, Any]:
    """For msgspec's encoders, which know neither our errors nor a subclass of `str`, such as `Quantization`."""
    if isinstance(value, GglibError):
        return to_wire(value)
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"{type(value).__name__} cannot be encoded")


def restored(kind: type, value: Any) -> Any:  # noqa: ANN401 - msgspec's signature
    """For msgspec's decoders: the error that `plain` encoded."""
    try:
        return from_wire(value) if kind is GglibError else value
    except KeyError as error:
        raise ValueError("not an error of this package") from error


class Value(Struct, frozen=True):
    """The base of our values: compared by their fields, hashable if those are, never changed."""

    __dataclass_fields__: ClassVar[Any] = _DataclassFields()
