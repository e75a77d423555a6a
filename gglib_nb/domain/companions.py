"""Which files of a repository are companions of a model: projectors, importance matrices, adapters, drafts.

The GGUF header decides if it was read. Otherwise names decide, compared with the other names, and known sizes.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from gglib_nb.domain.gguf_header import GgufHeader
from gglib_nb.domain.names import FileName
from gglib_nb.domain.values import Value, known_sum

CompanionKind = Literal["mmproj", "imatrix", "adapter", "vocab", "draft", "other"]

Words = tuple[str, ...]

HeaderKind = CompanionKind | Literal["model"]
"""A header's statement of what a file is."""

COMPANION_KINDS: Final[tuple[CompanionKind, ...]] = ("mmproj", "draft")
"""Kinds that can be downloaded with a model. Files of the other kinds are requested by their own paths."""

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
    r"(?:clip[-_][lgh]|(?:u?m?t5|byt5)[-_]?(?:x{1,2}l|base|large|small|v1)|text[-_]encoder|vocoder|audio[-_]?decoder"
    r"|voice|ae)(?:[-_.]|$)",
    re.IGNORECASE,
)
_PART_WORD: Final = re.compile(
    r"\w*(?:tokenizer|vocoder|codec)|snac|hifigan\d?|bigvgan|vocos|(?:token|code)2(?:wav|mel)"
)
# Draft models of speculative decoding. Head words may also describe a whole model (with its head built in).
_DRAFT_WORDS: Final = frozenset(
    {"draft", "drafter", "dflash", "dspark", "eagle2", "eagle3", "medusa", "speculator", "eagle"}
)
_DRAFT_FOLDERS: Final = _DRAFT_WORDS | {"drafts", "drafters", "speculative"}
HEAD_WORDS: Final = frozenset({"mtp", "nextn", "assistant"})  # the last in Gemma 4's names
_HEAD_FOLDERS: Final = frozenset({"mtp", "nextn"})
_ADAPTER_WORDS: Final = frozenset({"lora", "qlora", "loras", "adapter", "adapters", "cvec"})
_SIDECAR: Final = "._"  # AppleDouble: macOS keeps the attributes of a file beside it, under its name with this prefix
_CHECKSUM: Final = re.compile(r"(?:md5|sha\d{1,3})(?:sums?)?(?:\.txt)?|.+\.(?:md5|sha\d{1,3})(?:sums?)?", re.IGNORECASE)
# `IQ2XXS`, `w2Q2K`, `4.256bpw`: no label, yet the name of something quantized, which an importance matrix is not.
_STATES_BITS: Final = re.compile(r"I?Q\d(?:K|XX?S|_\d)|\d(?:bpw|bit)(?![a-z])", re.IGNORECASE)
_FLOATS: Final = ("F16", "BF16", "F32")
_UNQUANTIZED: Final = (None, *_FLOATS, "Q8_0")
# An importance matrix has one value per column of the weights: about a gigabyte for the largest models there are.
_LARGEST_IMATRIX_BYTES: Final = 4 * 1024**3
# Of the parameters of its model: a head is a layer or two.
_LARGEST_HEAD_SHARE: Final = 0.5


class Companion(Value, frozen=True):
    """A file that goes with the models of a repository; a size of None is unknown."""

    path: str
    kind: CompanionKind
    size_bytes: int | None


class _Listing:
    """All GGUF files of a repository, perhaps a hundred thousand, as evidence for the kind of one of them."""

    def __init__(self, files: Sequence[FileName], sizes: Mapping[str, int | None]) -> None:
        sets: defaultdict[tuple[object, ...], list[int | None]] = defaultdict(list)
        for file in files:
            sets[file.whole].append(sizes[file.path])
        self.sizes = {file.path: known_sum(sets[file.whole]) for file in files}  # of a split set, the whole
        self.bases = {file.base_words for file in files}
        # The names that occur in a block type, in which adapters are not written.
        self.bases_in_blocks = {file.base_words for file in files if file.label not in _UNQUANTIZED}
        # Parts and drafts are companions only beside a file that is a model by its name alone.
        named = (file for file in files if kind_by_name(file) is None and _kind_beside_a_model(file) is None)
        models = [file for file in named if not _is_imatrix(file, self)]
        self.has_a_model = bool(models)
        # Of the models without a prediction head, the names; the smallest of those that begin as a head does, and of
        # those with the same size in their names.
        heads = [file for file in models if _may_be_head(file)]
        others = [file for file in models if not _may_be_head(file)] if heads else []
        begins = {words for head in heads for words in _stem_and_twin(head)}
        self.names = {file.words for file in others}
        self.smallest: dict[Words, float | None] = {}
        for file in others:
            starts = begins.intersection(file.words[:end] for end in range(1, len(file.words) + 1))
            for start in starts | {tuple(sorted(file.size_words))}:
                known = filter(None, (_parameters(file, self.sizes), self.smallest.get(start)))
                self.smallest[start] = min(known, default=None)
        self.second_editions = {head.base_words for head in heads if _stem_and_twin(head)[1] in self.names}


def find_companions(
    files: Sequence[FileName], sizes: Mapping[str, int | None], stated: Mapping[str, HeaderKind]
) -> dict[str, CompanionKind]:
    """The kind of each companion in a listing, by path; other GGUF files are models. `stated`: by their headers."""
    listing = _Listing([file for file in files if file.is_gguf and not file.stem.startswith(_SIDECAR)], sizes)
    kinds = {file.path: _kind(file, listing, stated.get(file.path)) for file in files}
    return {path: kind for path, kind in kinds.items() if kind is not None}


def _kind(file: FileName, listing: _Listing, stated: HeaderKind | None) -> CompanionKind | None:
    if stated is not None:
        return None if stated == "model" else stated
    if not file.is_gguf:
        return _kind_of_other_format(file)
    kind = kind_by_name(file)
    if kind is None and listing.has_a_model:
        kind = _kind_beside_a_model(file)
    if kind is not None:
        return kind
    tests: dict[CompanionKind, bool] = {
        "imatrix": _is_imatrix(file, listing),
        "mmproj": _is_encoder(file, listing),
        "adapter": _is_adapter(file, listing),
        "draft": _may_be_head(file) and _is_head(file, listing),
    }
    return next((kind for kind, applies in tests.items() if applies), None)


def _kind_of_other_format(file: FileName) -> CompanionKind | None:
    """llama-imatrix wrote `.dat` before it wrote GGUF; unsloth hides the latter from pickers as `.gguf_file`."""
    name = file.stem.lower()
    if name.endswith(".imatrix") or ("imat" in name and name.endswith((".dat", ".gguf_file"))):
        return "imatrix"
    return "other" if _CHECKSUM.fullmatch(name) else None


def kind_by_name(file: FileName) -> CompanionKind | None:
    """What the name says whatever the other files are: the ggml naming document and llama.cpp's own prefixes."""
    if file.stem.startswith(_SIDECAR):
        return "other"
    if any(map(_MMPROJ.search, (file.stem, *file.folders))):
        return "mmproj"
    if file.words[:1] == ("mtp",):
        return "draft"
    return "vocab" if file.words[:2] == ("ggml", "vocab") or "vocab" in (*file.words[:1], *file.words[-1:]) else None


def _kind_beside_a_model(file: FileName) -> CompanionKind | None:
    """Parts that are companions of a model, and models themselves in a repository without another."""
    if any(map(_PART_FOLDERS.fullmatch, file.folders)):
        return "other"
    if _ENCODER_FOLDERS.intersection(file.folders) or _ENCODER.search(file.stem) or file.words[:1] == ("projector",):
        return "mmproj"
    if _DRAFT_WORDS.intersection(file.words) or _DRAFT_FOLDERS.intersection(file.folders):
        return "draft"
    # A VAE is convolutions and stays in a float format; a block type after `vae` is about a model's share.
    is_vae = "vae" in file.words and file.label in (None, *_FLOATS)
    return "other" if is_vae or _PART_STEMS.match(file.stem) or any(map(_PART_WORD.fullmatch, file.words)) else None


def _is_imatrix(file: FileName, listing: _Listing) -> bool:
    """`imatrix` leads or ends the name of an importance matrix; beside a label it says how a model was made.

    bartowski: `X-imatrix.gguf`; mradermacher: `X.imatrix.gguf`; unsloth: `imatrix_unsloth.gguf`; but Lewdiculous:
    `X-Q4_K_M-imat.gguf`. Quantizing to a float uses no matrix, so `X-F16-imatrix` is the matrix that X in F16 gave.
    """
    is_in_folder = "imatrix" in file.folders and file.label in _UNQUANTIZED  # others were made with a matrix
    leads, last = is_in_folder or file.words[:1] == ("imatrix",), file.words[-1:]
    if (listing.sizes[file.path] or 0) > _LARGEST_IMATRIX_BYTES or not (leads or last in (("imatrix",), ("imat",))):
        return False
    if leads or not file.label:
        return leads or not _STATES_BITS.search(file.stem)
    return file.label in _FLOATS and last == ("imatrix",)


def _is_encoder(file: FileName, listing: _Listing) -> bool:
    """`X-vision-F16` beside an X: the encoder of X under its older names. `X-Vision-Instruct` is a model."""
    base = file.base_words
    return base[-1:] != () and base[-1] in _ENCODER_WORDS and file.label in _UNQUANTIZED and base[:-1] in listing.bases


def _is_adapter(file: FileName, listing: _Listing) -> bool:
    """`LoRA` ends the name (ggml naming document) or leads it; convert_lora_to_gguf.py writes floats or `Q8_0`.

    A name that also comes in block types, or says `merged`, is a whole model. Control vectors are adapters, too.
    """
    if "control-vector" in file.path.lower() or _ADAPTER_WORDS.intersection(file.folders):
        return True
    base = file.base_words
    is_named = _ADAPTER_WORDS.intersection(base[:1] + base[-1:] + file.words[-1:]) and "merged" not in base
    return bool(is_named) and base not in listing.bases_in_blocks


def _is_head(file: FileName, listing: _Listing) -> bool:
    """A prediction head (`mtp`) that is published beside its model; otherwise the model has the head built in.

    Known sizes decide. Otherwise those in a folder `MTP` are heads, and `X-Q4_K_M-mtp` is the head of `X-Q4_K_M`. All
    `X-MTP-…` are a second edition of the model if one of them has the label of an `X-…`; if none has, they are heads
    for all.
    """
    stem, twin = _stem_and_twin(file)
    has_twin, is_apart = twin in listing.names, not _HEAD_FOLDERS.isdisjoint(file.folders)
    if not (listing.names if is_apart else stem in listing.smallest):
        return False
    beside = tuple(sorted(file.size_words)) if is_apart else twin if has_twin else stem
    reference, parameters = listing.smallest.get(beside), _parameters(file, listing.sizes)
    if reference and parameters:
        most = 1 if file.label else 4  # times as many: without a label it may be quantized
        return most * parameters < _LARGEST_HEAD_SHARE * reference
    is_after_label = bool(HEAD_WORDS.intersection(file.words_after_label))
    return is_apart or (has_twin if is_after_label else file.base_words not in listing.second_editions)


def _may_be_head(file: FileName) -> bool:
    return not (HEAD_WORDS.isdisjoint(file.words) and _HEAD_FOLDERS.isdisjoint(file.folders))


def _parameters(file: FileName, sizes: Mapping[str, int | None]) -> float | None:
    """About how many parameters a file has, by its size and label; without a label as if it were F16."""
    size_bytes, bits = sizes[file.path], file.label.bits_per_weight if file.label else None
    return size_bytes / (bits or 16) if size_bytes else None


def _stem_and_twin(head: FileName) -> tuple[Words, Words]:
    """The words of a name before the first head word, if any, and all without head words."""
    first = next((index for index, word in enumerate(head.words) if word in HEAD_WORDS), None)
    return head.words[:first], tuple(word for word in head.words if word not in HEAD_WORDS)


# Which companion belongs to which model

# Words of a companion's name that do not name its model.
_NAMES_NO_MODEL: Final = (
    _ENCODER_WORDS | _DRAFT_WORDS | HEAD_WORDS
    | {"mmproj", "mm", "proj", "multimodal", "encoder", "tower", "model", "ggml", "gguf", "i1", "ud", "qat"}
)  # fmt: skip
_SAYS_PRECISION: Final = re.compile(r"i?q\d\w*|b?f(?:16|32)|w\d\w*")  # `Q4K`, `w2Q2K`: in no label's spelling
# Names of projectors that only the models of one family of architectures have (`clip.projector_type`).
_FAMILIES: Final = ("gemma", "qwen", "lfm2")


def names_agree(companion: FileName, model: FileName) -> bool | None:
    """Whether a companion's name says that it belongs to a model; None: it names no model.

    Sizes that differ (`4b`, `27b`) outrank the other words. A small model that is used as a draft has its own size.
    """
    words = {one for one in companion.base_words if one not in _NAMES_NO_MODEL and not _SAYS_PRECISION.fullmatch(one)}
    if {"draft", "drafter"}.intersection(companion.words):
        words = {word for word in words if not re.fullmatch(r"\d+[bm]?", word)}
    elif sizes_differ(companion, model):
        return False
    theirs = set(model.base_words) - _NAMES_NO_MODEL
    return (words <= theirs or (bool(theirs) and theirs <= words)) if words else None


def sizes_differ(one: FileName, other: FileName) -> bool:
    """Whether both names state numbers of parameters, and no common one."""
    return bool(one.size_words) and bool(other.size_words) and not one.size_words & other.size_words


def headers_agree(projector: GgufHeader, model: GgufHeader) -> bool | None:
    """Whether a projector belongs to a model by their headers; None: they do not say.

    Converters that state `general.type` write the model's width as the projection's; older ones wrote other widths.
    """
    kind = projector.text("clip.projector_type") or projector.text("clip.vision.projector_type") or ""
    architecture = model.architecture or ""
    if any(kind.startswith(family) and not architecture.startswith(family) for family in _FAMILIES):
        return False
    widths = {projector.number(f"clip.{part}.projection_dim") for part in ("vision", "audio")} - {None, 0}
    if projector.text("general.type") != "mmproj" or not widths or model.embedding_length is None:
        return None
    if model.embedding_length not in widths:
        return False
    names = [re.sub(r"[\W_]", "", header.text("general.basename") or "").lower() for header in (projector, model)]
    return True if names[0] and names[0] == names[1] else None


def kind_of_header(header: GgufHeader) -> HeaderKind | None:
    """The kind of a file by its header (gguf-py/gguf/constants.py, tools/cvector-generator); None: it does not say."""
    kind, architecture = header.text("general.type") or "", header.architecture or ""
    if (known := _KINDS.get(architecture) or _KINDS.get(kind)) is not None:
        return known
    if not architecture or not header.block_count:
        return None
    is_split = (header.split_count or 1) > 1
    if header.tensor_count == 0 and not is_split:
        return "vocab"
    has_layers = header.tensor_count >= 2 * header.block_count
    # With few tensors and `nextn_predict_layers`, it may be the prediction head alone.
    is_model = (is_split or kind == "model" or header.tokenizer_model) and not header.of_model("nextn_predict_layers")
    return "model" if has_layers or is_model else None


_KINDS: Final[Mapping[str, CompanionKind]] = {
    "clip": "mmproj", "controlvector": "adapter", "eagle3": "draft", "dflash": "draft", "gemma4-assistant": "draft",
    "mmproj": "mmproj", "adapter": "adapter", "imatrix": "imatrix",
}  # fmt: skip
