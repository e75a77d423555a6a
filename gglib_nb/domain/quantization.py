"""Quantization labels: their spellings, one canonical spelling, and about how many bits they cost.

A label is an open value: any text in the shape of a label is one, known here or not.
"""

import re
from collections.abc import Iterator
from typing import Final, Self

# Bits per weight measured on Llama 3.1 8B: the table in llama.cpp's tools/quantize/README.md; if that has
# no row, the type's block size (ggml-common.h). `Q4_K` alone is llama-quantize's alias of `Q4_K_M`.
_BITS_PER_WEIGHT: Final = {
    "F64": 64.0, "F32": 32.0, "F16": 16.0, "BF16": 16.0,
    "Q8_0": 8.5, "Q6_K": 6.56, "Q5_K_M": 5.7, "Q5_K_S": 5.57, "Q5_K": 5.7, "Q5_1": 6.0, "Q5_0": 5.5,
    "Q4_K_M": 4.89, "Q4_K_S": 4.67, "Q4_K": 4.89, "Q4_1": 5.0, "Q4_0": 4.5, "MXFP4": 4.25, "NVFP4": 4.5,
    "IQ4_NL": 4.68, "IQ4_XS": 4.46, "Q3_K_L": 4.3, "Q3_K_M": 4.0, "Q3_K_S": 3.64, "Q3_K": 4.0,
    "IQ3_M": 3.76, "IQ3_S": 3.66, "IQ3_XS": 3.5, "IQ3_XXS": 3.25, "Q2_K": 3.16, "Q2_K_S": 2.97,
    "IQ2_M": 2.93, "IQ2_S": 2.74, "IQ2_XS": 2.59, "IQ2_XXS": 2.38, "IQ1_M": 2.15, "IQ1_S": 2.0,
    "TQ2_0": 2.06, "TQ1_0": 1.69, "Q1_0": 1.13,
}  # fmt: skip

# What may follow the digit of `Q4`, each after an underscore. `K`, the sizes and the numbers are llama.cpp's
# (`Q4_K_M`, `IQ2_XXS`, `IQ4_NL`, `Q4_0_8_8`, `TQ1_0`); `_XL`, `_L` and `_MOE` are unsloth's and bartowski's; `KSS`,
# `KT`, `R4`, `BN` ik_llama.cpp's; `G64` a group size; single letters and `MIXED` private dialects.
_PIECE: Final = (
    r"(?:_(?:K[A-Z]{0,2}|X{0,3}[SML]|[A-Z]|NL|BN|HQ|\d{1,2}[SML]?|R\d{1,2}|G\d{2,3}|MOE\d?|MIXED|MIX|PURE|HYBRID)"
    r"(?![A-Z0-9]))"
)
_START: Final = r"(?<![A-Z0-9])"
_END: Final = r"(?![A-Z0-9])"
_BLOCK_TYPES: Final = (
    rf"[A-Z]?Q[1-9]{_PIECE}+",  # Q4_K_M, IQ2_XXS, TQ1_0 and whatever letter comes next
    rf"(?:MX|NV)FP[1-9]{_PIECE}*(?:_(?:BF16|F16|F32|Q8_0){_END})*",  # MXFP4_MOE_BF16: noctrex names the rest's type
    r"Q[2-8]-K(?:-[SML])?",  # dashes instead of underscores
    r"Q[1-9]-[01](?![.]\d)",  # likewise, but not the version of Q3-1.7B
    r"I[1-8]_S|TL[12]",  # bitnet.cpp
)


def _labels_like(*spellings: str) -> re.Pattern[str]:
    return re.compile(rf"{_START}(?:{'|'.join(spellings)}){_END}", re.IGNORECASE | re.ASCII)


_BLOCK: Final = _labels_like(*(rf"(?:UD[-_.])?(?:{spelling})" for spelling in _BLOCK_TYPES))
_BARE: Final = _labels_like(rf"(?:UD[-_.])?[A-Z]?Q[1-9]{_END}(?![.]\d)")
_FLOAT: Final = _labels_like(r"BF16(?:_R\d+)?", r"FP?(?:16|32|64)")
_CHECKPOINT: Final = _labels_like(r"F[PN]?[48]", "NF4", "INT[1-8]")
_TRAINED_FOR: Final = re.compile(r"QAT[-_.]$", re.IGNORECASE)
_DYNAMIC: Final = "UD-"


class Quantization(str):
    """A quantization label in its canonical spelling: capitals, `UD-` kept in front, `FP16` written `F16`.

    Equal to plain text of the same spelling. Labels that are introduced later work like the others.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Brings any spelling to the canonical one."""
        upper = text.strip().upper()
        prefix = _DYNAMIC if re.match(r"UD[-_.]", upper) else ""
        bare = upper[len(prefix) :]
        if _BLOCK.fullmatch(bare):
            bare = bare.replace("-", "_")
        return super().__new__(cls, prefix + re.sub(r"^FP(?=16$|32$|64$)", "F", bare))

    @property
    def is_dynamic(self) -> bool:
        """Whether it is one of unsloth's dynamic quantizations (`UD-`)."""
        return self.startswith(_DYNAMIC)

    @property
    def bits_per_weight(self) -> float | None:
        """About how many bits a weight takes, for comparing; None: the label does not say.

        Unknown sizes of a known type count as the type (`Q4_K_XL` as `Q4_K`), unknown types by their digit.
        """
        name = self.removeprefix(_DYNAMIC)
        while name:
            if name in _BITS_PER_WEIGHT:
                return _BITS_PER_WEIGHT[name]
            name = name.rpartition("_")[0]
        digit = re.search(r"\d", self)
        return float(digit[0]) + 0.5 if digit and digit[0] != "0" else None


def read_label(file_name: str) -> Quantization | None:
    """The quantization that a file or folder name states; None: none.

    Of several, one that llama.cpp quantizes to (`Q4_K_M`, `MXFP4`) wins over a float format, which is then the source
    (`f16.gguf.Q4_K_M`, `Q5_K_M-F16-Merged`); a float wins over formats of checkpoints (`FP8`, `INT4`) and over a bare
    `Q4` inside a model's name. Of equals the last wins, because the ggml naming document puts the encoding last.
    `QAT-Q4_0` says what the model was trained for and yields to any other. Glued spellings (`Q4KExperts`) are no
    labels.
    """
    found = list(_labels(file_name))
    if len(found) > 1:
        found = [label for label in found if not _TRAINED_FOR.search(file_name, 0, label[1])] or found
    return Quantization(max(found)[2]) if found else None


def _labels(name: str) -> Iterator[tuple[int, int, str]]:
    """Every label in the name as (rank, position, text)."""
    taken = 0
    for match in _BLOCK.finditer(name):
        taken = match.end()
        yield 3, match.start(), match[0]
    for match in _BARE.finditer(name):
        if not _BLOCK.match(name, match.start()):
            ends_the_name = re.fullmatch(r"(?:\.gguf)?", name[match.end() :], re.IGNORECASE)
            yield 3 if ends_the_name and match.start() >= taken else 1, match.start(), match[0]
    for rank, pattern in ((2, _FLOAT), (1, _CHECKPOINT)):
        for match in pattern.finditer(name):
            yield rank, match.start(), match[0]
