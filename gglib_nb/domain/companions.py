"""Which files of a repository go with a model and are none: projectors, importance matrices, adapters, drafts.

Names decide, in the light of the other names: an `-mtp` behind a name marks a draft head where the model without it
stands beside, and a model with the head built in where not. Sizes, where known, overrule the name. Each rule
below says where it comes from. What remains are the models; `gglib_nb.domain.variants` groups them.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Final, Literal

from gglib_nb.domain.file_names import FileName

CompanionKind = Literal["mmproj", "imatrix", "adapter", "vocab", "draft", "other"]

COMPANION_KINDS: Final[tuple[CompanionKind, ...]] = ("mmproj",)
"""Kinds that can be fetched along. The others (imatrix, adapters, drafts) are for other programs than a loader."""

# llama.cpp's `mmproj-` (tools/mtmd); before that name was settled people wrote `vision_encoder`, `mm_projector`.
_MMPROJ: Final = re.compile(r"mm[-_]?proj|multi[-_]?modal[-_.]?proj", re.IGNORECASE)
_ENCODER: Final = re.compile(
    r"(?:^|[-_.])(?:vision|visual|image|audio)[-_.]?(?:encoder|tower|projector|proj|adapter)(?:[-_.]|$)", re.IGNORECASE
)
_ENCODER_WORDS: Final = frozenset({"vision", "visual", "clip", "vit", "projector", "audio"})
_ENCODER_FOLDERS: Final = frozenset({"vision", "visual", "audio", "vision_encoder", "audio_encoder", "image_encoder"})
# Parts of speech and image pipelines that are shipped beside the model that uses them. A projector in here is
# the pipeline's own, not llama.cpp's.
_PART_FOLDERS: Final = re.compile(
    r"tts|token2wav.*|vocoder|codec|tokenizer|text[-_]encoders?(?:_\d)?|clip|vae|voices?|speakers?", re.IGNORECASE
)
_PART_STEMS: Final = re.compile(
    r"(?:clip[-_][lgh]|(?:u?m?t5|byt5)[-_]?(?:x{1,2}l|base|large|small|v1)|text[-_]encoder|vocoder|audio[-_]?decoder|voice|ae)(?:[-_.]|$)",
    re.IGNORECASE,
)
_PART_WORD: Final = re.compile(r"\w*(?:tokenizer|vocoder|codec)|snac|hifigan\d?|bigvgan|vocos|token2wav|token2mel")
# Draft models of speculative decoding. Only `mtp` also describes a whole model (its prediction head built in).
_DRAFT_WORDS: Final = frozenset(
    {"draft", "drafter", "dflash", "dspark", "eagle2", "eagle3", "medusa", "speculator", "eagle"}
)
_DRAFT_FOLDERS: Final = _DRAFT_WORDS | {"drafts", "drafters", "mtp", "nextn", "speculative"}
_HEAD_WORDS: Final = frozenset({"mtp", "nextn"})
_ADAPTER_WORDS: Final = frozenset({"lora", "qlora", "loras", "adapter", "adapters", "cvec"})
_CHECKSUM: Final = re.compile(r"(?:md5|sha\d{1,3})(?:sums?)?(?:\.txt)?|.+\.(?:md5|sha\d{1,3})(?:sums?)?", re.IGNORECASE)
# `IQ2XXS`, `w2Q2K`, `4.256bpw`: no label, yet the name of something quantized, which an importance matrix is not.
_STATES_BITS: Final = re.compile(r"I?Q\d(?:K|XX?S|_\d)|\d(?:bpw|bit)(?![a-z])", re.IGNORECASE)
_FLOATS: Final = ("F16", "BF16", "F32")
# An importance matrix has one value per column of the weights: about a gigabyte for the largest models there are.
_LARGEST_IMATRIX_BYTES: Final = 4 * 1024**3
_LARGEST_HEAD_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Companion:
    """A file that goes with the models of a repository.

    Attributes:
        path: In the repository.
        kind: What it is for.
        size_bytes: None unknown.
    """

    path: str
    kind: CompanionKind
    size_bytes: int | None


@dataclass(frozen=True)
class _Siblings:
    """Files whose names begin alike and have no head word.

    Attributes:
        words: Their names, as words.
        smallest_bytes: Size of the smallest; None where no size is known.
    """

    words: frozenset[tuple[str, ...]]
    smallest_bytes: int | None


@dataclass(frozen=True)
class _Listing:
    """All GGUF files of a repository, as evidence for what one of them is.

    A repository may hold a hundred thousand, so none is compared with all others: what is looked for has an index.
    """

    files: tuple[FileName, ...]
    sizes: Mapping[str, int | None]
    _siblings: dict[tuple[str, ...], _Siblings] = field(default_factory=dict)
    _editions: dict[tuple[tuple[str, ...], tuple[str, ...]], bool] = field(default_factory=dict)

    @cached_property
    def by_base(self) -> Mapping[tuple[str, ...], list[FileName]]:
        """The files by the words that name their model."""
        found: defaultdict[tuple[str, ...], list[FileName]] = defaultdict(list)
        for file in self.files:
            found[file.base_words].append(file)
        return dict(found)

    @cached_property
    def bases_in_floats(self) -> frozenset[tuple[str, ...]]:
        """Those of which no file is in a block type that adapters are not written in."""
        floats = (None, *_FLOATS, "Q8_0")
        return frozenset(base for base, files in self.by_base.items() if all(file.label in floats for file in files))

    @cached_property
    def plain_bytes(self) -> Mapping[tuple[str, ...], int | None]:
        """Size of the smallest file of each name without a head word; None where no size is known."""
        found: dict[tuple[str, ...], int | None] = {}
        for words, path in self.plain:
            sizes = [size for size in (found.get(words), self.sizes[path]) if size]
            found[words] = min(sizes, default=None)
        return found

    @cached_property
    def plain(self) -> list[tuple[tuple[str, ...], str]]:
        """Words and path of the files without a head word, in order."""
        return sorted((file.words, file.path) for file in self.files if not _HEAD_WORDS.intersection(file.words))

    def siblings(self, stem: tuple[str, ...]) -> _Siblings:
        """The plain files whose names begin with these words."""
        if stem not in self._siblings:
            found = []
            for words, path in islice(self.plain, bisect_left(self.plain, (stem,)), None):
                if words[: len(stem)] != stem:
                    break
                found.append((words, path))
            sizes = (size for _, path in found if (size := self.sizes[path]))
            self._siblings[stem] = _Siblings(frozenset(words for words, _ in found), min(sizes, default=None))
        return self._siblings[stem]

    def has_second_edition(self, base: tuple[str, ...], stem: tuple[str, ...]) -> bool:
        """Whether a file of this name comes without its head word too, for any label."""
        if (base, stem) not in self._editions:
            plain = self.siblings(stem).words
            self._editions[base, stem] = any(_without_head(other) in plain for other in self.by_base[base])
        return self._editions[base, stem]

    @cached_property
    def has_a_model(self) -> bool:
        """Whether any file is a model by its name alone; parts and drafts are companions only beside one."""
        return any(_kind_by_name(file) is None and _kind_beside_a_model(file) is None for file in self.files)


def find_companions(files: Iterable[FileName], sizes: Mapping[str, int | None]) -> dict[str, CompanionKind]:
    """The kind of every file that is a companion, by its path; all other GGUF files are models.

    Args:
        files: The whole listing.
        sizes: Bytes by path; None where unknown.
    """
    everything = tuple(files)
    listing = _Listing(tuple(file for file in everything if file.is_gguf and not _is_sidecar(file)), sizes)
    kinds = {file.path: _kind(file, listing) for file in everything}
    return {path: kind for path, kind in kinds.items() if kind is not None}


def _kind(file: FileName, listing: _Listing) -> CompanionKind | None:
    if not file.is_gguf:
        return _kind_of_other_format(file)
    if (kind := _kind_by_name(file)) is not None:
        return kind
    if listing.has_a_model and (kind := _kind_beside_a_model(file)) is not None:
        return kind
    if _is_imatrix(file, listing):
        return "imatrix"
    if _is_encoder(file, listing):
        return "mmproj"
    if _is_adapter(file, listing):
        return "adapter"
    return "draft" if _is_head(file, listing) else None


def _kind_of_other_format(file: FileName) -> CompanionKind | None:
    """llama-imatrix wrote `.dat` before it wrote GGUF; unsloth hides the latter from pickers as `.gguf_file`."""
    name = file.stem.lower()
    if name.endswith(".imatrix") or ("imat" in name and name.endswith((".dat", ".gguf_file"))):
        return "imatrix"
    return "other" if _CHECKSUM.fullmatch(name) else None


def _kind_by_name(file: FileName) -> CompanionKind | None:
    """What the name says whatever lies beside it: the ggml naming document and llama.cpp's own prefixes."""
    if _is_sidecar(file):
        return "other"
    if _MMPROJ.search(file.stem) or any(_MMPROJ.search(folder) for folder in file.folders):
        return "mmproj"
    if file.words[:1] == ("mtp",):
        return "draft"
    if file.words[:2] == ("ggml", "vocab") or "vocab" in (file.words[:1] + file.words[-1:]):
        return "vocab"
    return None


def _is_sidecar(file: FileName) -> bool:
    """An AppleDouble file: macOS keeps the attributes of a file beside it, under its name behind `._`."""
    return file.stem.startswith("._")


def _kind_beside_a_model(file: FileName) -> CompanionKind | None:
    """Parts that are companions of a model, and the thing itself in a repository that holds nothing else."""
    if any(_PART_FOLDERS.fullmatch(folder) for folder in file.folders):
        return "other"
    if _ENCODER_FOLDERS.intersection(file.folders) or _ENCODER.search(file.stem) or file.words[:1] == ("projector",):
        return "mmproj"
    if _DRAFT_WORDS.intersection(file.words) or _DRAFT_FOLDERS.intersection(file.folders):
        return "draft"
    if _PART_STEMS.match(file.stem) or any(_PART_WORD.fullmatch(word) for word in file.words) or _is_vae(file):
        return "other"
    return None


def _is_vae(file: FileName) -> bool:
    """A VAE is convolutions and stays in a float format; a block type behind `vae` speaks of a model's share."""
    return "vae" in file.words and (file.label is None or file.label in _FLOATS)


def _is_imatrix(file: FileName, listing: _Listing) -> bool:
    """`imatrix` leads or ends the name of an importance matrix; beside a label it says how a model was made.

    bartowski: `X-imatrix.gguf`; mradermacher: `X.imatrix.gguf`; unsloth: `imatrix_unsloth.gguf`; but Lewdiculous:
    `X-Q4_K_M-imat.gguf`. Quantizing to a float uses no matrix, so `X-F16-imatrix` is the matrix that X in F16 gave.
    """
    leads = file.words[:1] == ("imatrix",) or "imatrix" in file.folders
    if not leads and not {"imatrix", "imat"}.intersection(file.words[-1:]):
        return False
    if (listing.sizes[file.path] or 0) > _LARGEST_IMATRIX_BYTES:
        return False
    if leads:
        return True
    if file.label:
        return file.label in _FLOATS and file.words[-1] == "imatrix"
    return not _STATES_BITS.search(file.stem)


def _is_encoder(file: FileName, listing: _Listing) -> bool:
    """`X-vision-F16` beside an X: the encoder of X under its older names. `X-Vision-Instruct` is a model."""
    base = file.base_words
    if not base or base[-1] not in _ENCODER_WORDS or file.label not in (None, *_FLOATS, "Q8_0"):
        return False
    return base[:-1] in listing.by_base


def _is_adapter(file: FileName, listing: _Listing) -> bool:
    """`LoRA` ends the name (ggml naming document) or leads it; convert_lora_to_gguf.py writes floats or `Q8_0`.

    A name that also comes in block types (`alpaca-lora.Q4_K_M`), or says `merged`, is a whole model. Control
    vectors are adapters to llama.cpp too (llama-adapter.h).
    """
    if "control-vector" in file.path.lower() or _ADAPTER_WORDS.intersection(file.folders):
        return True
    base = file.base_words
    if not _ADAPTER_WORDS.intersection(base[:1] + base[-1:] + file.words[-1:]) or "merged" in base:
        return False
    return base in listing.bases_in_floats


def _is_head(file: FileName, listing: _Listing) -> bool:
    """A prediction head (`mtp`) published beside the model it belongs to.

    Behind the label (`X-Q4_K_M-mtp`) it is the head of the file that goes without. Before the label it belongs to
    the model's name: beside an `X-Q4_K_M`, `X-MTP-Q4_K_M` is a second edition of the model with the head built in,
    while one that repeats no label of its siblings is a head that serves all of them. Known sizes decide before
    that: a head is a layer or two.
    """
    cut = next((index for index, word in enumerate(file.words) if word in _HEAD_WORDS), 0)
    stem = file.words[:cut]
    if not stem or not (siblings := listing.siblings(stem)).words:
        return False
    twin = _without_head(file)
    has_twin = twin in siblings.words
    reference = listing.plain_bytes[twin] if has_twin else siblings.smallest_bytes
    if reference and (size := listing.sizes[file.path]):
        return size < _LARGEST_HEAD_SHARE * reference
    if _HEAD_WORDS.intersection(file.words[file.label_span.stop :]):
        return has_twin
    return not listing.has_second_edition(file.base_words, stem)


def _without_head(file: FileName) -> tuple[str, ...]:
    return tuple(word for word in file.words if word not in _HEAD_WORDS)
