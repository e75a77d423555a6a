"""Which variant a request means, and which one is taken if the request names none."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from gglib_nb.domain.download import MOST_NAMED
from gglib_nb.domain.names import Quantization, read_label
from gglib_nb.domain.plan import BAD_FINDINGS
from gglib_nb.domain.text import did_you_mean, similar
from gglib_nb.domain.units import listed
from gglib_nb.domain.values import Value
from gglib_nb.domain.variants import Variant, Variants, preferred
from gglib_nb.errors import (
    AmbiguousQuantizationError,
    IncompleteShardSetError,
    InvalidQuantizationError,
    NoGgufFilesError,
)

# The order of the ecosystem's tools, llama.cpp's `-hf` first.
PREFERRED_LABELS: Final = ("Q4_K_M", "Q5_K_M", "Q5_K_S", "Q4_K_S", "Q6_K", "Q8_0")
_NEAREST_TO_BITS: Final = Quantization(PREFERRED_LABELS[0]).bits_per_weight or 4.89
_FEWEST_BITS: Final = 4.0
_MOST_BITS: Final = 6.6


class Choice(Value, frozen=True):
    """The variant that was taken."""

    variant: Variant
    why: str  # by which rule, as a sentence


def choose(
    variants: Variants,
    requested: str | None = None,
    memory_bytes: int | None = None,
    *,
    repository: str = "The repository",
    findings: Mapping[str, str] = MappingProxyType({}),
) -> Choice:
    """Takes one variant; a request must match a label, a variant's key, a file name or a path, in any case.

    Without a request: the only variant; else the first of `PREFERRED_LABELS`; else the `UD-` or `IQ` label of 4 to 6
    bits nearest to `Q4_K_M` that fits in memory; without `memory_bytes`, everything fits. Incomplete sets, builds for
    big-endian machines and, beside a model, companions are taken only by name; so is a variant with a bad one of the
    `findings` of the Hub's security scan, by path, if there is another. `repository` begins the sentences of errors.

    Raises `NoGgufFilesError`, `InvalidQuantizationError`, `AmbiguousQuantizationError` or `IncompleteShardSetError`.
    """
    if not variants.offered:
        raise NoGgufFilesError(
            f"{repository} has no GGUF files. Search for a repository whose name ends in -GGUF: %gguf search WORDS"
        )
    if requested and requested.strip():
        variant = _requested(variants, requested.strip(), repository)
        choice = Choice(variant, f"Requested: {variant.key}.")
    elif not variants.variants:
        kinds = ", ".join(sorted({companion.kind for companion in variants.companions}))
        raise NoGgufFilesError(
            f"{repository} has no GGUF model, only companion files ({kinds}). "
            f"Name one of them: {_listed(_best_first(variants.offered))}."
        )
    else:
        choice = _by_rule(variants.variants, memory_bytes, repository)
        finding, avoided = finding_of(choice.variant, findings), choice.variant.key
        others = [one for one in _usable(variants.variants) if finding_of(one, findings) not in BAD_FINDINGS]
        if finding in BAD_FINDINGS and others:
            without = f"Without {avoided}, which the Hub's security scan calls {finding}, {repository}"
            choice = _by_rule(others, memory_bytes, without)
            why = f"{choice.variant.key} was chosen because the Hub's security scan calls {avoided} {finding}."
            choice = replace(choice, why=why + _size_warning(choice.variant, memory_bytes))
    if missing := choice.variant.missing:
        raise IncompleteShardSetError(
            f"{repository} is missing {len(missing)} of the {choice.variant.shards_expected} files of "
            f"{choice.variant.key} (number {listed(missing, MOST_NAMED)}), so it cannot be loaded. Choose "
            "another quantization, or report it to the publisher.",
            missing,
        )
    return choice


def finding_of(variant: Variant, findings: Mapping[str, str]) -> str:
    """The finding of the Hub's security scan on one of a variant's files, a bad one first; empty: none."""
    found = [findings[path] for path in variant.files if path in findings]
    return next((one for one in found if one in BAD_FINDINGS), next(iter(found), ""))


# What was asked for


def _requested(variants: Variants, requested: str, repository: str) -> Variant:
    exact = (one for one in (*variants.variants, *variants.single_files) if requested in one.files)
    if (variant := next(exact, variants.by_key(requested))) is not None:
        return variant
    offered = variants.offered
    rules = ((_labelled, offered), (_named, variants.variants), (_named, variants.single_files), (_ending_in, offered))
    for rule, among in rules:
        if found := rule(among, requested):
            return _single(found, f"{repository} has {len(found)} variants named {requested}.")
    choices = _best_first(offered)
    near = similar(requested, reversed(_keys(choices)))
    choices.sort(key=lambda variant: variant.key not in near)
    raise InvalidQuantizationError(
        f"{repository} has no {requested}. {did_you_mean(near)}Available: {_listed(choices)}.", _keys(choices)
    )


def _labelled(variants: Sequence[Variant], requested: str) -> list[Variant]:
    """Of those with the label: complete ones, for this machine's byte order, singles before their split copies."""
    found = [variant for variant in variants if variant.quantization == Quantization(requested)]
    found = [variant for variant in found if variant.is_complete] or found
    return preferred([variant for variant in found if not variant.is_big_endian] or found)


def _named(variants: Sequence[Variant], requested: str) -> list[Variant]:
    """By path, file name, stem or folder; of several with the same stem, a single file rather than its split copy."""
    wanted = requested.casefold().strip("/")

    def has(*names: str) -> bool:
        return wanted in map(str.casefold, names)

    def has_name(one: Variant) -> bool:
        return has(one.stem, f"{one.stem}.gguf", one.folder, *(path.rpartition("/")[2] for path in one.files))

    whole = [one for one in variants if has(*one.files, f"{one.folder}/{one.stem}")]
    return preferred(whole or filter(has_name, variants))


def _ending_in(variants: Sequence[Variant], requested: str) -> list[Variant]:
    """By the end of the stem (`i1-Q4_K_M`), as llama.cpp does, not by a label: `Q4_K_XL` is not `UD-Q4_K_XL`."""
    if read_label(requested) == Quantization(requested):
        return []
    endings = tuple(separator + requested.casefold() for separator in "-.")
    return [variant for variant in variants if variant.stem.casefold().endswith(endings)]


# Nothing was asked for


def _usable(variants: Iterable[Variant]) -> list[Variant]:
    return [variant for variant in variants if variant.is_complete and not variant.is_big_endian]


def _by_rule(variants: Sequence[Variant], memory_bytes: int | None, repository: str) -> Choice:
    usable = _usable(variants)
    if len(variants) == 1 or len(usable) == 1:
        variant = (usable or variants)[0]
        alone = "" if len(variants) == 1 else " that is complete and runs on this machine"
        return Choice(variant, f"{variant.key} is the only variant{alone}.")
    if not usable:
        raise _ambiguous(
            f"{repository} has {len(variants)} variants but none is complete and runs on this machine.", variants
        )
    first, labels = PREFERRED_LABELS[0], {variant.quantization for variant in usable}
    usual = next((label for label in PREFERRED_LABELS if label in labels), None)
    candidates = usable if usual else _nearest(usable, memory_bytes)
    if not candidates:
        none = "none of 4 to 6 bits fits in memory" if _nearest(usable, None) else "none of the usual ones"
        raise _ambiguous(f"{repository} has {len(usable)} variants, but {none}.", usable)
    label = usual or candidates[0].quantization
    found = preferred(one for one in candidates if one.quantization == label)
    variant = _single(found, f"{repository} has {len(found)} variants with the label {label}.")
    if usual is None:
        fits = "" if memory_bytes is None else " that fits in memory"
        return Choice(variant, f"{label} is the nearest to {first}{fits}.")
    why = (
        f"{first} is the usual choice." if usual == first else f"There is no {first}; {label} is the next usual choice."
    )
    return Choice(variant, why + _size_warning(variant, memory_bytes))


def _nearest(usable: list[Variant], memory_bytes: int | None) -> list[Variant]:
    """Unsloth's dynamic labels and llama.cpp's IQ types, by distance in bits; of equals the smaller file is first."""

    def distance(variant: Variant) -> tuple[float, float, str]:
        bits = variant.bits_per_weight or 0.0
        return abs(bits - _NEAREST_TO_BITS), bits, variant.files[0]

    fitting = (one for one in usable if (one.quantization or "").startswith(("UD-", "IQ")) and _fits(one, memory_bytes))
    return sorted((one for one in fitting if _FEWEST_BITS <= (one.bits_per_weight or 0) <= _MOST_BITS), key=distance)


def _fits(variant: Variant, memory_bytes: int | None) -> bool:
    return memory_bytes is None or variant.size_bytes is None or variant.size_bytes <= memory_bytes


def _size_warning(variant: Variant, memory_bytes: int | None) -> str:
    return "" if _fits(variant, memory_bytes) else " It is larger than this machine's memory."


def _single(found: list[Variant], situation: str) -> Variant:
    if len(found) == 1:
        return found[0]
    raise _ambiguous(situation, found)


def _ambiguous(situation: str, among: Iterable[Variant]) -> AmbiguousQuantizationError:
    choices = _best_first(among)
    return AmbiguousQuantizationError(f"{situation} Choose one of them: {_listed(choices)}.", _keys(choices))


def _best_first(variants: Iterable[Variant]) -> list[Variant]:
    def rank(variant: Variant) -> tuple[bool, int, float, str]:
        usual = [*PREFERRED_LABELS, variant.quantization].index(variant.quantization)
        return not variant.is_complete, usual, variant.bits_per_weight or 0.0, variant.key

    return sorted(variants, key=rank)


def _keys(variants: Iterable[Variant]) -> tuple[str, ...]:
    return tuple(variant.key for variant in variants)


def _listed(choices: list[Variant]) -> str:
    """The keys for a sentence; after a hash, its file."""
    named = [f"{one.key} ({one.files[0]})" if one.key.startswith("~") else one.key for one in choices]
    return listed(named, MOST_NAMED)
