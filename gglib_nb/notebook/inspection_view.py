"""An inspection and a comparison, as text and as static HTML. Pure. Everything that comes from a file is escaped here.

A chat template is shown as text and never run.
"""

from collections.abc import Iterable
from html import escape
from typing import Final

from gglib_nb.domain.inspection import Comparison, Inspection, TensorGroup, shown
from gglib_nb.domain.printable import printable
from gglib_nb.notebook import formats
from gglib_nb.notebook.tables import Column, Row, Table, details, row

_MOST_KEYS: Final = 500
_MOST_TEMPLATE_LINES: Final = 1_000
_TEXT_TEMPLATE_LINES: Final = 25
_BAR_CELLS: Final = 20
_LONGEST_TEMPLATE_LINE: Final = 2_000
_PRE: Final = "max-height:24em;overflow:auto;margin:.3em 0;padding:.5em;border:1px solid rgba(128,128,128,.4);white-space:pre-wrap"
_ADDED, _REMOVED = "background:rgba(67,160,71,.22)", "background:rgba(229,57,53,.22)"
_TENSOR_COLUMNS: Final = (
    Column("Type", is_code=True),
    Column("Share"),
    Column("Tensors", is_number=True),
    Column("Size", is_number=True),
    Column("Bits per weight", is_number=True),
)
_KEY_COLUMNS: Final = (Column("Key", is_code=True), Column("Value"))


def inspection_text(one: Inspection, width: int | None = None) -> str:
    """An inspection for a terminal."""
    facts = _facts(one)
    longest = max(len(name) for name, _ in facts)
    lines = [printable(one.name), *(f"  {name:<{longest}}  {value}" for name, value in facts)]
    keys = Table(_KEY_COLUMNS, [row(*pair) for pair in _keys(one)])
    return "\n".join(
        [
            *lines,
            *(["", Table(_TENSOR_COLUMNS, _tensor_rows(one, with_bar=True)).text(width)] if one.tensors else []),
            "",
            keys.text(width),
            *(
                f"\n{_template_title(name, text)}\n{_excerpt(text, _TEXT_TEMPLATE_LINES, '  ')}"
                for name, text in sorted(one.chat_templates.items())
            ),
        ]
    )


def inspection_html(one: Inspection) -> str:
    """The same as static HTML; metadata and templates are folded."""
    facts = "".join(
        f'<tr style="background:none"><td style="padding:.1em .9em .1em 0;opacity:.75">{name}</td><td>{escape(value)}</td></tr>'
        for name, value in _facts(one)
    )
    keys = Table(_KEY_COLUMNS, [row(*pair) for pair in _keys(one)]).html()
    parts = [
        f"<strong>{escape(printable(one.name))}</strong>",
        f'<table style="border-collapse:collapse;border:0;color:inherit;text-align:left">{facts}</table>',
        _stacked_bar(one),
        Table(_TENSOR_COLUMNS, _tensor_rows(one, with_bar=False)).html() if one.tensors else "",
        details(f"Metadata ({len(one.metadata) + len(one.array_lengths)} keys)", keys),
        *(
            details(
                _template_title(name, text), f'<pre style="{_PRE}">{escape(_excerpt(text, _MOST_TEMPLATE_LINES))}</pre>'
            )
            for name, text in sorted(one.chat_templates.items())
        ),
    ]
    return f'<div style="line-height:1.4">{"".join(parts)}</div>'


def comparison_text(found: Comparison, width: int | None = None) -> str:
    """Two models side by side for a terminal: only what differs."""
    table = [_difference_table(found).text(width)] if found.keys else []
    diff = [found.template_diff] if found.template_diff else []
    return "\n".join([_difference_sentence(found), *table, "", template_sentence(found), *diff])


def comparison_html(found: Comparison) -> str:
    """The same as static HTML."""
    parts = [
        f"<strong>{escape(_difference_sentence(found))}</strong>",
        _difference_table(found).html() if found.keys else "",
        f"<div>{escape(template_sentence(found))}</div>",
        diff_html(found.template_diff),
    ]
    return f'<div style="line-height:1.4">{"".join(parts)}</div>'


def template_sentence(found: Comparison) -> str:
    """Whether the chat templates differ, in one sentence."""
    return "The chat templates are the same." if found.is_same_template else "The chat template is different:"


def diff_html(diff: str) -> str:
    """A unified diff as coloured HTML; empty for an empty one."""
    if not diff:
        return ""
    lines = "".join(f'<div style="{_diff_style(line)}">{escape(line) or " "}</div>' for line in diff.split("\n"))
    return f'<pre style="{_PRE}">{lines}</pre>'


def warnings_of(one: Inspection) -> tuple[str, ...]:
    """What a user should know before using the model; empty if there is nothing."""
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
        ("Chat template", [_templates_in_short(one)]),
        ("Licence", [one.licence]),
        ("Base model", one.base_models),
        ("File", [one.path]),
        *(("Note", [warning]) for warning in warnings_of(one)),
    ]
    texts = [(name, printable(", ".join(part for part in parts if part))) for name, parts in found]
    return [(name, text) for name, text in texts if text]


def _templates_in_short(one: Inspection) -> str:
    if not one.has_chat_template:
        return "none"
    names = [name for name in sorted(one.chat_templates) if name]
    text = one.chat_templates.get("")
    length = "too long to show" if text is None else f"{len(text):,} characters"
    return f"{length}; also {', '.join(names)}" if names else length


def _keys(one: Inspection) -> list[tuple[str, str]]:
    arrays = {key: f"{count:,} values" for key, count in one.array_lengths.items()}
    texts = {**{key: shown(value) for key, value in one.metadata.items()}, **arrays}
    keys = sorted(texts)
    rest = [("…", f"{len(keys) - _MOST_KEYS:,} more keys")] if len(keys) > _MOST_KEYS else []
    return [*((printable(key[:200]), texts[key]) for key in keys[:_MOST_KEYS]), *rest]


def _tensor_rows(one: Inspection, *, with_bar: bool) -> list[Row]:
    whole = sum(group.size_bytes for group in one.tensors) or 1
    return [
        row(
            group.type,
            _share(group, whole, with_bar=with_bar),
            f"{group.tensor_count:,}",
            formats.size(group.size_bytes),
            formats.UNKNOWN if group.bits_per_weight is None else f"{group.bits_per_weight:.2f}",
        )
        for group in one.tensors
    ]


def _share(group: TensorGroup, whole: int, *, with_bar: bool) -> str:
    share = group.size_bytes / whole
    percent = f"{share * 100:.1f} %"
    return f"{'█' * max(1, round(share * _BAR_CELLS)):<{_BAR_CELLS}} {percent}" if with_bar else percent


def _stacked_bar(one: Inspection) -> str:
    """All types in one bar, each as wide as its bytes."""
    whole = sum(group.size_bytes for group in one.tensors)
    if not whole:
        return ""
    parts = "".join(
        f'<div title="{escape(group.type)}" style="flex:{group.size_bytes / whole:.4f} 0 auto;'
        f'background:hsl({210 + 47 * number} 55% 55%)"></div>'
        for number, group in enumerate(one.tensors)
    )
    return f'<div role="presentation" style="display:flex;height:.8em;max-width:40em;margin:.5em 0;border-radius:3px;overflow:hidden">{parts}</div>'


def _template_title(name: str, text: str) -> str:
    label = f"Chat template {printable(name)}".rstrip()
    return f"{label} ({len(text):,} characters)"


def _excerpt(text: str, most_lines: int, indent: str = "") -> str:
    lines = [f"{indent}{printable(_cut(line))}" for line in text.splitlines()]
    more = [f"{indent}… {len(lines) - most_lines:,} more lines"] if len(lines) > most_lines else []
    return "\n".join([*lines[:most_lines], *more])


def _cut(line: str) -> str:
    left = len(line) - _LONGEST_TEMPLATE_LINE
    return f"{line[:_LONGEST_TEMPLATE_LINE]} … {left:,} more characters" if left > 0 else line


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


def _diff_style(line: str) -> str:
    if line.startswith("+") and not line.startswith("+++"):
        return _ADDED
    return _REMOVED if line.startswith("-") and not line.startswith("---") else ""
