"""An inspection and a comparison of models, as blocks. Pure.

A chat template is shown as text and never rendered.
"""

from collections.abc import Iterable
from typing import Final

from gglib_nb.domain.inspection import Comparison, Inspection, shown
from gglib_nb.domain.printable import printable
from gglib_nb.notebook import formats
from gglib_nb.notebook.tables import STRONG, Block, Column, Diff, Fold, Line, Row, Table, row

_MOST_KEYS: Final = 500
_BAR_CELLS: Final = 20
_TEXT_TEMPLATE_LINES: Final = 25
_TENSOR_COLUMNS: Final = (
    Column("Type", is_code=True),
    Column("Share"),
    Column("Tensors", is_number=True),
    Column("Size", is_number=True),
    Column("Bits per weight", is_number=True),
)
_KEY_COLUMNS: Final = (Column("Key", is_code=True), Column("Value"))


def inspection_blocks(one: Inspection) -> list[Block]:
    """The output of `%gguf inspect` for one model."""
    return [
        Line(one.name, STRONG),
        *(Line(f"{name}: {value}") for name, value in _facts(one)),
        *([Table(_TENSOR_COLUMNS, _tensor_rows(one))] if one.tensors else []),
        Fold(f"Metadata ({len(one.metadata) + len(one.array_lengths)} keys)", Table(_KEY_COLUMNS, _keys(one))),
        *(
            Fold(f"{f'Chat template {name}'.rstrip()} ({len(text):,} characters)", text, _TEXT_TEMPLATE_LINES)
            for name, text in sorted(one.chat_templates.items())
        ),
    ]


def comparison_blocks(found: Comparison) -> list[Block]:
    """The differences between two models."""
    is_same = found.is_same_template
    return [
        Line(_difference_sentence(found), STRONG),
        *([_difference_table(found)] if found.keys else []),
        Line("The chat templates are the same." if is_same else "The chat template is different:"),
        *([Diff(found.template_diff)] if found.template_diff else []),
    ]


def warnings_of(one: Inspection) -> tuple[str, ...]:
    """A warning to read before using the model; empty if there is none."""
    found: list[str] = []
    if not one.has_chat_template:
        found.append("It has no chat template: set one in the program that loads it.")
    if one.introspection:
        names = printable(", ".join(one.introspection[:5]))
        found.append(
            f"Its chat template uses Python introspection ({names}). Only run it in a program that sandboxes templates."
        )
    return tuple(found)


def _facts(one: Inspection) -> list[tuple[str, str]]:
    weights = None if one.bits_per_weight is None else f"{one.bits_per_weight:.2f} bits per weight"
    parameters = f"{formats.count(one.parameter_count)} parameters" if one.tensors else None
    tokens = None if one.vocabulary_size is None else f"{one.vocabulary_size:,} tokens"
    found: list[tuple[str, Iterable[str | None]]] = [
        ("Name", [one.title]),
        ("Architecture", [one.architecture, parameters, weights]),
        ("Size", [formats.size(one.size_bytes)]),
        ("Context", [None if one.context_length is None else f"{one.context_length:,} tokens"]),
        ("Tokenizer", [one.tokenizer, tokens]),
        ("Chat template", ["too long to show" if one.has_chat_template and "" not in one.chat_templates else None]),
        ("Licence", [one.licence]),
        ("Base model", one.base_models),
        ("File", [one.path]),
        *(("Note", [warning]) for warning in warnings_of(one)),
    ]
    texts = [(name, printable(", ".join(part for part in parts if part))) for name, parts in found]
    return [(name, text) for name, text in texts if text]


def _keys(one: Inspection) -> list[Row]:
    arrays = {key: f"{count:,} values" for key, count in one.array_lengths.items()}
    texts = {**{key: shown(value) for key, value in one.metadata.items()}, **arrays}
    keys = sorted(texts)
    rest = [row("…", f"{len(keys) - _MOST_KEYS:,} more keys")] if len(keys) > _MOST_KEYS else []
    return [*(row(key[:200], texts[key]) for key in keys[:_MOST_KEYS]), *rest]


def _tensor_rows(one: Inspection) -> list[Row]:
    whole = sum(group.size_bytes for group in one.tensors) or 1
    return [
        row(
            group.type,
            f"{'█' * max(1, round(group.size_bytes / whole * _BAR_CELLS)):<{_BAR_CELLS}} {group.size_bytes / whole * 100:.1f} %",
            f"{group.tensor_count:,}",
            formats.size(group.size_bytes),
            formats.UNKNOWN if group.bits_per_weight is None else f"{group.bits_per_weight:.2f}",
        )
        for group in one.tensors
    ]


def _difference_table(found: Comparison) -> Table:
    columns = (Column("Key", is_code=True), *map(Column, _titles(found)))
    keys = found.keys[:_MOST_KEYS]
    return Table(
        columns, [row(one.key[:200], one.first or formats.UNKNOWN, one.second or formats.UNKNOWN) for one in keys]
    )


def _difference_sentence(found: Comparison) -> str:
    keys = f"{len(found.keys)} keys differ" if len(found.keys) != 1 else "1 key differs"
    names = (
        f"{found.first.name} here and on the Hub" if _is_one(found) else f"{found.first.name} and {found.second.name}"
    )
    return printable(f"{names}: {keys if found.keys else 'the metadata is the same'}.")


def _is_one(found: Comparison) -> bool:
    """Whether it compares a model with the same model on the Hub."""
    return found.first.name == found.second.name and found.second.path is None


def _titles(found: Comparison) -> tuple[str, str]:
    if _is_one(found):
        return "Yours", "On the Hub"
    first, second = (printable(one.name.rpartition("/")[2]) for one in (found.first, found.second))
    return first, second
