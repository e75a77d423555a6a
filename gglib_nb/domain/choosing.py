"""Which variant a request means, and which one is taken if the request names none."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, Literal

from gglib_nb.domain.file_names import Quantization, read_label
from gglib_nb.domain.units import listed
from gglib_nb.domain.values import Value
from gglib_nb.domain.variants import Variant, Variants, preferred
from gglib_nb.errors import (
    AmbiguousQuantizationError,
    IncompleteShardSetError,
    InvalidQuantizationError,
    NoGgufFilesError,
)

Reason = Literal["requested", "only", "preferred", "nearest"]

# The order of the ecosystem's tools, llama.cpp's `-hf` first.
PREFERRED_LABELS: Final = ("Q4_K_M", "Q5_K_M", "Q5_K_S", "Q4_K_S", "Q6_K", "Q8_0")
_NEAREST_TO_BITS: Final = Quantization(PREFERRED_LABELS[0]).bits_per_weight or 4.89
_FEWEST_BITS: Final = 4.0
_MOST_BITS: Final = 6.6
_MOST_CHOICES_NAMED: Final = 12


class Choice(Value, frozen=True):
    """The variant that was taken."""

    variant: Variant
    reason: Reason  # by which rule
    why: str  # the same as a sentence


def choose(
    variants: Variants,
    requested: str | None = None,
    memory_bytes: int | None = None,
    *,
    repository: str = "The repository",
    unsafe: Mapping[str, str] = MappingProxyType({}),
) -> Choice:
    """Takes one variant.

    A request must match: a label, a variant's key, a file name or a path, in any case. Without one: the only variant;
    else the first of `PREFERRED_LABELS`; else the `UD-` or `IQ` label of 4 to 6 bits nearest to `Q4_K_M` that fits in
    memory. Incomplete sets, builds for big-endian machines and, beside a model, companions are taken only by name.

    Args:
        variants: What the repository offers.
        requested: As typed; None or empty: the rule decides.
        memory_bytes: Memory for the model; None: unknown, and everything fits.
        repository: Its name at the beginning of an error's sentence.
        unsafe: Findings of the Hub's security scan by path. Variants with one are taken only by name, or if there are no others.

    Raises:
        NoGgufFilesError: The repository has no model.
        InvalidQuantizationError: Nothing matches the request.
        AmbiguousQuantizationError: Several match, or no rule decides.
        IncompleteShardSetError: The variant lacks files.
    """
    if not variants.offered:
        raise NoGgufFilesError(
            f"{repository} has no GGUF files. Search for a repository whose name ends in -GGUF: %gguf search WORDS"
        )
    if requested and requested.strip():
        variant = _requested(variants, requested.strip(), repository)
        return Choice(_whole(variant, repository), "requested", f"Requested: {variant.key}.")
    if not variants.variants:
        kinds = ", ".join(sorted({companion.kind for companion in variants.companions}))
        raise NoGgufFilesError(
            f"{repository} has no GGUF model, only companion files ({kinds}). "
            f"Name one of them: {_listed(_best_first(variants.offered))}."
        )
    choice = _by_rule(variants.variants, memory_bytes, repository)
    finding = next((unsafe[path] for path in choice.variant.files if path in unsafe), "")
    safe = tuple(one for one in variants.variants if one.is_complete and not unsafe.keys() & set(one.files))
    if not finding or not safe:
        return choice
    other = _by_rule(safe, memory_bytes, repository)
    why = f"{other.variant.key}, because the Hub's security scan calls {choice.variant.key} {finding}."
    return replace(other, why=why)


def _whole(variant: Variant, repository: str) -> Variant:
    if variant.is_complete:
        return variant
    missing = variant.missing
    raise IncompleteShardSetError(
        f"{repository} is missing {len(missing)} of the {variant.shards_expected} files of {variant.key} "
        f"(number {listed(missing, _MOST_CHOICES_NAMED)}), so it cannot be loaded. Choose another quantization, or report it to the publisher.",
        missing,
    )


# What was asked for


def _requested(variants: Variants, requested: str, repository: str) -> Variant:
    if (variant := variants.by_key(requested)) is not None:
        return variant
    for rule, among in (
        (_labelled, variants.offered),
        (_named, variants.variants),
        (_named, variants.single_files),
        (_ending_in, variants.offered),
    ):
        found = rule(among, requested)
        if len(found) == 1:
            return found[0]
        if found:
            raise _ambiguous(f"{repository} has {len(found)} variants named {requested}.", found)
    raise _unknown(variants.offered, requested, repository)


def _labelled(variants: Iterable[Variant], requested: str) -> list[Variant]:
    label = Quantization(requested)
    return _most_usable(variant for variant in variants if variant.quantization == label)


def _most_usable(alike: Iterable[Variant]) -> list[Variant]:
    """Of those with one label: complete ones, for this machine's byte order, singles before their split copies."""
    candidates = list(alike)
    tests: tuple[Callable[[Variant], bool], ...] = (lambda one: one.is_complete, lambda one: not one.is_big_endian)
    for test in tests:
        candidates = [one for one in candidates if test(one)] or candidates
    return preferred(candidates)


def _named(variants: Iterable[Variant], requested: str) -> list[Variant]:
    """By path, file name, stem or folder; of several with the same stem, a single file rather than its split copy."""
    wanted = requested.casefold().strip("/")
    everything = list(variants)
    if whole := [one for one in everything if wanted in map(str.casefold, (*one.files, f"{one.folder}/{one.stem}"))]:
        return preferred(whole)
    return preferred(
        variant
        for variant in everything
        if wanted in (variant.stem.casefold(), f"{variant.stem}.gguf".casefold(), variant.folder.casefold())
        or any(wanted == path.rpartition("/")[2].casefold() for path in variant.files)
    )


def _ending_in(variants: Iterable[Variant], requested: str) -> list[Variant]:
    """By the end of the stem: people write `i1-Q4_K_M` (mradermacher) or `APEX-Quality`.

    Not for a label alone: `Q4_K_XL` does not mean `UD-Q4_K_XL`.
    """
    if read_label(requested) == Quantization(requested):
        return []
    endings = tuple(separator + requested.casefold() for separator in "-.")
    return [variant for variant in variants if variant.stem.casefold().endswith(endings)]


def _unknown(variants: tuple[Variant, ...], requested: str, repository: str) -> InvalidQuantizationError:
    choices = _best_first(variants)
    near = _near_miss(requested, _keys(choices))
    question = f"Did you mean {near}? " if near else ""
    choices.sort(key=lambda variant: variant.key != near)
    return InvalidQuantizationError(
        f"{repository} has no {requested}. {question}Available: {_listed(choices)}.", _keys(choices)
    )


def _near_miss(requested: str, choices: tuple[str, ...]) -> str | None:
    """The choice that was probably meant: the same letters and digits, those after a `UD-`, or similar ones."""
    squeezed = {_squeeze(choice): choice for choice in reversed(choices)}
    wanted = _squeeze(requested)
    for candidate in (wanted, f"ud{wanted}", wanted.removeprefix("ud")):
        if candidate in squeezed:
            return squeezed[candidate]
    close = difflib.get_close_matches(wanted, squeezed, n=1, cutoff=0.7)
    return squeezed[close[0]] if close else None


def _squeeze(text: str) -> str:
    return re.sub(r"[\W_]", "", text.casefold())


# Nothing was asked for


def _by_rule(variants: tuple[Variant, ...], memory_bytes: int | None, repository: str) -> Choice:
    if len(variants) == 1:
        return Choice(_whole(variants[0], repository), "only", f"{variants[0].key} is the only variant.")
    usable = [variant for variant in variants if variant.is_complete and not variant.is_big_endian]
    if len(usable) == 1:
        return Choice(
            usable[0], "only", f"{usable[0].key} is the only variant that is complete and runs on this machine."
        )
    for label in PREFERRED_LABELS:
        if alike := preferred(variant for variant in usable if variant.quantization == label):
            return Choice(_single(alike, label, repository), "preferred", _why_preferred(label, memory_bytes, alike[0]))
    if not usable:
        raise _ambiguous(
            f"{repository} has {len(variants)} variants but none is complete and runs on this machine.", variants
        )
    return _nearest(usable, memory_bytes, repository)


def _single(alike: list[Variant], label: str, repository: str) -> Variant:
    if len(alike) == 1:
        return alike[0]
    raise _ambiguous(f"{repository} has {len(alike)} variants with the label {label}.", alike)


def _why_preferred(label: str, memory_bytes: int | None, variant: Variant) -> str:
    first = PREFERRED_LABELS[0]
    why = f"{label} is the usual choice" if label == first else f"There is no {first}; {label} is the next usual choice"
    return f"{why}." if _fits(variant, memory_bytes) else f"{why}. It is larger than this machine's memory."


def _nearest(usable: list[Variant], memory_bytes: int | None, repository: str) -> Choice:
    """Unsloth's dynamic labels and llama.cpp's IQ types, by distance in bits; of equals the smaller file."""
    candidates = [variant for variant in usable if _is_near(variant) and _fits(variant, memory_bytes)]
    if not candidates:
        raise _ambiguous(f"{repository} has {len(usable)} variants, but none of the usual ones.", usable)
    best = min(candidates, key=_distance)
    alike = preferred(variant for variant in candidates if variant.quantization == best.quantization)
    variant = _single(alike, best.quantization or best.key, repository)
    fits = " that fits in memory" if memory_bytes is not None else ""
    return Choice(variant, "nearest", f"{variant.quantization} is the nearest to Q4_K_M{fits}.")


def _is_near(variant: Variant) -> bool:
    label = variant.quantization
    return (
        label is not None
        and (label.is_dynamic or label.startswith("IQ"))
        and _FEWEST_BITS <= _bits(variant) <= _MOST_BITS
    )


def _distance(variant: Variant) -> tuple[float, float, str]:
    return abs(_bits(variant) - _NEAREST_TO_BITS), _bits(variant), variant.files[0]


def _bits(variant: Variant) -> float:
    return (variant.quantization.bits_per_weight if variant.quantization else None) or 0.0


def _fits(variant: Variant, memory_bytes: int | None) -> bool:
    return memory_bytes is None or variant.size_bytes is None or variant.size_bytes <= memory_bytes


def _ambiguous(situation: str, among: Iterable[Variant]) -> AmbiguousQuantizationError:
    choices = _best_first(among)
    return AmbiguousQuantizationError(f"{situation} Choose one of them: {_listed(choices)}.", _keys(choices))


def _best_first(variants: Iterable[Variant]) -> list[Variant]:
    """The usual choices first, then from few bits to many; incomplete ones last."""

    def rank(variant: Variant) -> tuple[bool, int, float, str]:
        usual = [*PREFERRED_LABELS, variant.quantization].index(variant.quantization)
        return not variant.is_complete, usual, _bits(variant), variant.key

    return sorted(variants, key=rank)


def _keys(variants: Iterable[Variant]) -> tuple[str, ...]:
    return tuple(variant.key for variant in variants)


def _listed(choices: list[Variant]) -> str:
    """The keys for a sentence; after a hash, its file."""
    named = [f"{one.key} ({one.files[0]})" if one.key.startswith("~") else one.key for one in choices]
    return listed(named, _MOST_CHOICES_NAMED)
