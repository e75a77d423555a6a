"""Perplexity and KL divergence of quantizations, as their publisher states them in the card or in a JSON file.

Only what needs no guess is read: a column and a row of one known name each. If two places differ, neither counts.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec

from gglib_nb.domain.values import Value
from gglib_nb.domain.variants import Variant

LONGEST_BYTES: Final = 1024**2
"""More of a card, or of a JSON file, is not read."""

_NAMES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ppl", "perplexity", "mean ppl", "mean perplexity"), "perplexity"),
    **dict.fromkeys(
        ("kld", "kl divergence", "kl-divergence", "mean kld", "mean kl divergence", "mean kl-divergence"),
        "kl_divergence",
    ),
}
_RANGES: Final[Mapping[str, tuple[float, float]]] = {"perplexity": (1.0, 1e6), "kl_divergence": (0.0, 100.0)}
_LINK: Final = re.compile(r"\[([^\[\]]{1,200})\]\([^()]{0,500}\)")
_MARKUP: Final = re.compile(r"\(lower is better\)|[↓*`]", re.IGNORECASE)
_NUMBER: Final = re.compile(r"(\d{1,9}(?:\.\d{1,12})?)(?: ?(?:±|\+/-) ?\d{1,9}(?:\.\d{1,12})?)?")
_JSON_WORDS: Final = ("kld", "kl_div", "kl-div", "ppl", "perplexity")
_LONGEST_CELL: Final = 800
_MOST_COLUMNS: Final = 50

Pairs = Sequence[tuple[str | None, object]]
"""Values with their metrics; None: of another column."""


class Quality(Value, frozen=True):
    """What a publisher states of one variant; lower is better; None: nothing."""

    kl_divergence: float | None = None
    perplexity: float | None = None


def states_quality(path: str) -> bool:
    """Whether a file may state the quality of variants, by its name."""
    name = PurePosixPath(path).name.casefold()
    return path == "README.md" or (name.endswith(".json") and any(word in name for word in _JSON_WORDS))


def stated_qualities(texts: Mapping[str, bytes], variants: Sequence[Variant]) -> dict[str, Quality]:
    """What the texts, by path, state of the variants of a repository, by their keys."""
    keys = _keys(variants)
    found: dict[tuple[str, str], set[float]] = defaultdict(set)
    for path, data in texts.items():
        for names, pairs in _json_rows(data) if path.endswith(".json") else _table_rows(data.decode(errors="replace")):
            named = {keys[text] for text in map(_plain, names) if text in keys}
            for key in named if len(named) == 1 else ():
                for metric, value in _values(pairs):
                    found[key, metric].add(value)
    stated: dict[str, dict[str, float]] = defaultdict(dict)
    for (key, metric), each in found.items():
        if len(each) == 1:
            (stated[key][metric],) = each
    return {key: Quality(**values) for key, values in stated.items()}


def _keys(variants: Iterable[Variant]) -> dict[str, str]:
    """The key of each variant, by every name that only this one has."""
    keys: dict[str, set[str]] = defaultdict(set)
    for variant in variants:
        files = (PurePosixPath(path).name for path in variant.files)
        for name in (variant.key, str(variant.quantization or ""), variant.stem, *files):
            keys[name.casefold()].add(variant.key)
    return {name: next(iter(each)) for name, each in keys.items() if name and len(each) == 1}


def _values(pairs: Pairs) -> Iterator[tuple[str, float]]:
    """The value of each metric; of a metric with two columns none."""
    metrics = [metric for metric, _ in pairs]
    for metric, value in pairs:
        number = None if metric is None or metrics.count(metric) > 1 else _number(value, *_RANGES[metric])
        if metric is not None and number is not None:
            yield metric, number


def _number(value: object, least: float, most: float) -> float | None:
    if isinstance(value, str):
        match = _NUMBER.fullmatch(_plain(value))
        value = float(match[1]) if match is not None else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if least <= value <= most else None


def _plain(text: str) -> str:
    """A cell without its markup, in small letters."""
    short = _LINK.sub(r"\1", text[:_LONGEST_CELL])
    return " ".join(_MARKUP.sub("", short).strip(" _").casefold().split())


def _table_rows(card: str) -> Iterator[tuple[Iterable[str], Pairs]]:
    head: list[str] = []
    metrics: list[str | None] = []
    is_code = False
    for line in card.splitlines():
        is_code ^= line.lstrip().startswith("```")
        cells = _cells(line) if not is_code and "|" in line else []
        if cells and metrics:
            yield cells, list(zip(metrics, cells, strict=False))
        elif cells and len(head) == len(cells) and all("-" in cell and not cell.strip(" :-") for cell in cells):
            metrics = [_NAMES.get(_plain(cell)) for cell in head]
        metrics, head = metrics if cells else [], cells


def _cells(line: str) -> list[str]:
    """The cells of a row; none if there are too many for a table."""
    cells = line.strip().removeprefix("|").removesuffix("|").split("|", _MOST_COLUMNS)
    return [cell.strip() for cell in cells] if len(cells) <= _MOST_COLUMNS else []


def _json_rows(data: bytes) -> Iterator[tuple[Iterable[str], Pairs]]:
    """The rows of an object of objects, or of a list of objects."""
    try:
        content: Any = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return
    rows: Iterable[tuple[Any, Any]] = content.items() if isinstance(content, dict) else ()
    if isinstance(content, list):
        rows = ((None, row) for row in content)
    for name, row in rows:
        if isinstance(row, dict):
            texts = [text for text in row.values() if isinstance(text, str)] if name is None else [name]
            yield texts, [(_NAMES.get(_plain(key)), value) for key, value in row.items()]
