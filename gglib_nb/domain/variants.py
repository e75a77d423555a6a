"""Groups the files of a repository into variants and their companions."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from gglib_nb.domain.companions import (
    HEAD_WORDS,
    Companion,
    CompanionKind,
    HeaderKind,
    find_companions,
    names_agree,
    sizes_differ,
)
from gglib_nb.domain.names import FileName, Quantization, SplitKind, parse_path
from gglib_nb.domain.values import Value, known_sum
from gglib_nb.errors import InvalidConfigError

# F16 first: every backend computes it, and a projector is small. llama.cpp takes the projector nearest to its
# model by folder (common/download.cpp); the order among precisions is ours.
_PROJECTOR_PRECISIONS: Final = ("F16", "BF16", "Q8_0", "F32")
# A draft is read for every token, so the smallest that predicts as well as F16.
_DRAFT_PRECISIONS: Final = ("Q8_0", "Q4_0", "Q4_K_M", "BF16", "F16")


class Variant(Value, frozen=True):
    """One thing to download: a model in one quantization.

    Attributes:
        quantization: The label that its names state; None: none.
        files: Paths in the repository, in shard order.
        sizes: Bytes of each of them; None: unknown.
        numbers: The shard number of each of them, 1-based.
        shards_expected: The number of files of the whole set.
        split: How it was split; None: a single file.
        stem: The name without `.gguf` and shard number.
        folder: Its folder in the repository; empty at the root.
        key: The tail of its download id: unique in the repository in any case.
    """

    quantization: Quantization | None
    files: tuple[str, ...]
    sizes: tuple[int | None, ...]
    numbers: tuple[int, ...]
    shards_expected: int
    split: SplitKind | None
    stem: str
    folder: str
    key: str

    @property
    def size_bytes(self) -> int | None:
        """Bytes of all its files together; None: one is unknown."""
        return known_sum(self.sizes)

    @property
    def bits_per_weight(self) -> float | None:
        """About how many bits a weight takes; None: the label does not say."""
        return None if self.quantization is None else self.quantization.bits_per_weight

    @property
    def is_complete(self) -> bool:
        """Whether no file of the set is missing."""
        return len(self.files) == self.shards_expected

    @property
    def missing(self) -> tuple[int, ...]:
        """The 1-based numbers of missing files."""
        return tuple(sorted(set(range(1, self.shards_expected + 1)).difference(self.numbers)))

    @property
    def name(self) -> str:
        """For display: the key, or if that is a hash, the path without ending and shard number."""
        return "/".join(filter(None, (self.folder, self.stem))) if self.key.startswith("~") else self.key

    @property
    def is_big_endian(self) -> bool:
        """Whether a name in its path ends in `big-endian`, or in `-be` beside a label (`-be.Q4_0`)."""
        names = [parse_path(part) for part in self.files[0].split("/")]
        labelled = (name.base_words[-1:] for name in names if name.label and "be" in name.words[1:])
        return ("be",) in labelled or any(name.base_words[-2:] == ("big", "endian") for name in names)


def first_name(variant: Variant) -> FileName:
    """The name of a variant's first file, taken apart."""
    return parse_path(variant.files[0])


class Variants(Value, frozen=True, dict=True):
    """What a repository offers: variants and companions, each by path."""

    variants: tuple[Variant, ...]
    companions: tuple[Companion, ...]

    @cached_property
    def single_files(self) -> tuple[Variant, ...]:
        """Each companion, with all files of a split one, as something to download by itself."""
        taken = {variant.key.casefold() for variant in self.variants}
        sizes = {one.path: one.size_bytes for one in self.companions}
        alone = [_variant(members, sizes) for members in _sets(map(parse_path, sizes))]
        return tuple(replace(one, key=key) for one, key in zip(alone, _stem_keys(alone, taken), strict=True))

    @cached_property
    def editions(self) -> Mapping[str, bool]:
        """Whether the models of a folder are editions of one model; of the empty name, all models of the repository."""
        by_folder: defaultdict[str, list[FileName]] = defaultdict(list)
        for variant in self.variants:
            for folder in {variant.folder, ""}:
                by_folder[folder].append(first_name(variant))
        return {folder: _are_editions(names) for folder, names in by_folder.items()}

    @cached_property
    def is_one_model(self) -> bool:
        """Whether the names of all variants differ in their labels only."""
        return len({_edition(first_name(one)) for one in self.variants}) == 1

    @cached_property
    def whole_companions(self) -> Mapping[str, Variant]:
        """The complete ones of these, by the path of their first file."""
        return {one.files[0]: one for one in self.single_files if one.is_complete}

    @property
    def offered(self) -> tuple[Variant, ...]:
        """The variants; without any, the companions."""
        return self.variants or self.single_files

    def by_key(self, key: str) -> Variant | None:
        """The variant, or the companion by itself, with that key in any case; None: none."""
        folded = key.casefold()
        return next((one for one in (*self.variants, *self.single_files) if one.key.casefold() == folded), None)


def variants_of(
    files: Mapping[str, int | None] | Iterable[str | tuple[str, int | None]],
    stated: Mapping[str, HeaderKind] = MappingProxyType({}),
) -> Variants:
    """Sorts the files of a repository into variants and companions; other files (a README) are left out.

    A variant is the files of a folder with the same name (without shard number), kind of split and number of shards.
    `files` are paths in the repository with `/`, in any order, alone or with their size in bytes; `stated` are the
    kinds of files according to their headers, by path: the names decide about the others.
    """
    entries = [files] if isinstance(files, str) else files.items() if isinstance(files, Mapping) else files
    try:
        sizes = dict((entry, None) if isinstance(entry, str) else entry for entry in entries)
        names = [parse_path(path) for path in sorted(sizes)]
        known_sum(sizes.values())
    except (AttributeError, TypeError, ValueError):
        raise InvalidConfigError("Files must be paths, alone or with their sizes in bytes.") from None
    kinds = find_companions(names, sizes, stated)
    models = [name for name in names if name.is_gguf and name.path not in kinds]
    sets = sorted((_variant(members, sizes) for members in _sets(models)), key=lambda variant: variant.files[0])
    return Variants(_with_keys(sets), tuple(Companion(path, kind, sizes[path]) for path, kind in kinds.items()))


def companion_for(
    variants: Variants,
    variant: Variant,
    kind: CompanionKind = "mmproj",
    confirm: Callable[[Companion], bool | None] = lambda _companion: None,
) -> Companion | None:
    """The companion of a kind that fits the variant best, of a split one the first file; None: none is known to fit.

    Names have to agree, unless headers do: `confirm` returns what they say, None: nothing. A companion whose name names
    no model (`mmproj-F16`) goes with the models of its folder, and from the root with all, if these are editions of one
    model; in a repository with a single model, any companion fits. Of several: the variant's own folder, then the root;
    the name that shares most with the variant's; then the precision.
    """
    if variant in variants.single_files:
        return None
    whole = variants.whole_companions
    named = (one for one in variants.companions if one.kind == kind and one.path in whole)
    fitting = (one for one in named if parse_path(one.path).is_gguf and _fits(variants, one, variant, confirm(one)))
    best = min(fitting, key=lambda companion: _distance(companion, variant), default=None)
    return None if best is None else replace(best, size_bytes=whole[best.path].size_bytes)


def _fits(variants: Variants, companion: Companion, variant: Variant, confirmed: bool | None) -> bool:
    name, model = parse_path(companion.path), first_name(variant)
    agree = names_agree(name, model)
    if agree or confirmed is not None:
        return agree is not False and confirmed is not False
    if agree is False:
        return variants.is_one_model and not sizes_differ(name, model)
    place = name.folder if name.folder in variants.editions else ""
    return place in ("", variant.folder) and variants.editions[place]


def _are_editions(names: list[FileName]) -> bool:
    """Whether names are of one model: they share a word, and no two state different sizes."""
    editions = {_edition(name) for name in names}
    sizes = [name.size_words for name in names if name.size_words]
    has_one_size = all(sizes[0] & size for size in sizes)
    return len(editions) <= 1 or (has_one_size and bool(set.intersection(*map(set, editions))))


def _edition(name: FileName) -> tuple[str, ...]:
    return tuple(word for word in name.base_words if word not in HEAD_WORDS)


def _distance(companion: Companion, variant: Variant) -> tuple[int, int, int, str]:
    name, words = parse_path(companion.path), first_name(variant).base_words
    # The projector for pictures comes before the one for sound.
    away = (0 if name.folder == variant.folder else 1 if not name.folder else 2) + 3 * ("audio" in name.words)
    precisions = _PROJECTOR_PRECISIONS if companion.kind == "mmproj" else _DRAFT_PRECISIONS
    precision = precisions.index(name.label) if name.label in precisions else 9
    return away, -len(set(words).intersection(name.base_words)), precision, companion.path


def _sets(models: Iterable[FileName]) -> list[list[FileName]]:
    """Files that make one variant, in shard order; no number occurs twice in a set."""
    sets: defaultdict[tuple[object, ...], list[dict[int, FileName]]] = defaultdict(list)
    for file in models:
        split = file.split
        number = split.number if split else 1
        free = next((members for members in sets[file.whole] if number not in members), None)
        if free is None:
            sets[file.whole].append(free := {})
        free[number] = file
    return [[members[number] for number in sorted(members)] for alike in sets.values() for members in alike]


def _variant(members: list[FileName], sizes: dict[str, int | None]) -> Variant:
    first, split = members[0], members[0].split
    from_zero = split is not None and split.number == 0  # split(1) with -d
    numbers = tuple(member.split.number + from_zero if member.split else 1 for member in members)
    # A byte split that does not state its total has at least the listed ones, and never only one.
    expected = (split.total or max(2, numbers[-1])) if split else 1
    files, kind = tuple(member.path for member in members), split.kind if split and expected > 1 else None
    sizes_bytes = tuple(sizes[path] for path in files)
    return Variant(first.label, files, sizes_bytes, numbers, expected, kind, first.stem, first.folder, key="")


def _with_keys(variants: list[Variant]) -> tuple[Variant, ...]:
    """Gives each its key: the label if only this one has it, else the stem, else a hash of the first path."""
    by_label: defaultdict[str, list[Variant]] = defaultdict(list)
    for variant in variants:
        by_label[variant.quantization or ""].append(variant)
    named = ((label, preferred(alike)) for label, alike in by_label.items() if label)
    keys = {found[0].files: label for label, found in named if len(found) == 1}
    others = [variant for variant in variants if variant.files not in keys]
    taken = {key.casefold() for key in keys.values()}
    keys |= {variant.files: key for variant, key in zip(others, _stem_keys(others, taken), strict=True)}
    return tuple(replace(variant, key=keys[variant.files]) for variant in variants)


def _stem_keys(variants: list[Variant], taken: set[str]) -> list[str]:
    """The stem of each if it is unique, else a hash of its first path."""
    stems = Counter(variant.stem.casefold() for variant in variants)
    free = {stem for stem, count in stems.items() if count == 1 and stem not in taken and stem and ":" not in stem}
    digests = (hashlib.sha256(one.files[0].encode(errors="surrogatepass")).hexdigest()[:8] for one in variants)
    return [
        one.stem if one.stem.casefold() in free else f"~{digest}" for one, digest in zip(variants, digests, strict=True)
    ]


def preferred(alike: Iterable[Variant]) -> list[Variant]:
    """Of variants with the same label, those it can mean: a single file rather than its own split copies."""
    candidates = list(alike)
    singles = [variant for variant in candidates if variant.shards_expected == 1]
    return singles if len(singles) == len({variant.stem.casefold() for variant in candidates}) == 1 else candidates
