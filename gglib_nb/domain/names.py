"""Names: what a file's name states, the name of a download, and the path under which a file is stored.

A quantization label is an open value: any text in the shape of a label is one, known here or not.
"""

import re
import shlex
from functools import cached_property, lru_cache, reduce
from pathlib import Path, PurePath, PureWindowsPath
from typing import Final, Literal, Self, TypeVar

from typing_extensions import override

from gglib_nb.domain.text import check_text
from gglib_nb.domain.values import Value
from gglib_nb.errors import InvalidRepoIdError, RequestError

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
_KINDS: Final = {
    # What llama.cpp quantizes to: Q4_K_M, IQ2_XXS, TQ1_0 and whatever letter comes next; MXFP4_MOE_BF16 (noctrex names
    # the rest's type); dashes for underscores, but not the version of Q3-1.7B; I2_S and TL1 of bitnet.cpp.
    "block": rf"(?:UD[-_.])?(?:[A-Z]?Q[1-9]{_PIECE}+|(?:MX|NV)FP[1-9]{_PIECE}*(?:_(?:BF16|F16|F32|Q8_0)(?![A-Z0-9]))*"
    r"|Q[2-8]-K(?:-[SML])?|Q[1-9]-[01](?![.]\d)|I[1-8]_S|TL[12])",
    "bare": r"(?:UD[-_.])?[A-Z]?Q[1-9](?![.]\d)",
    "float": r"BF16(?:_R\d+)?|FP?(?:16|32|64)",
    "checkpoint": r"F[PN]?[48]|NF4|INT[1-8]",
}
_LABEL: Final = re.compile(
    rf"(?<![A-Z0-9])(?:{'|'.join(f'(?P<{kind}>{text})' for kind, text in _KINDS.items())})(?![A-Z0-9])",
    re.IGNORECASE | re.ASCII,
)
_RANKS: Final = {"block": 3, "float": 2, "checkpoint": 1, "bare": 1}
_ENDINGS: Final = ("", ".gguf")
_TRAINED_FOR: Final = re.compile(r"QAT[-_.]$", re.IGNORECASE)
_DYNAMIC: Final = "UD-"


class Quantization(str):
    """A quantization label in its canonical spelling: capitals, `UD-` kept in front, `FP16` written `F16`.

    Equal to plain text of the same spelling. Labels that are introduced later work like the others.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Brings any spelling to the canonical one."""
        check_text("The quantization", text)
        upper = text.strip().upper()
        prefix = _DYNAMIC if re.match(r"UD[-_.]", upper) else ""
        bare = upper[len(prefix) :]
        if (found := _LABEL.fullmatch(bare)) is not None and found["block"]:
            bare = bare.replace("-", "_")
        return super().__new__(cls, prefix + re.sub(r"^FP(?=16$|32$|64$)", "F", bare))

    @property
    def bits_per_weight(self) -> float | None:
        """About how many bits a weight takes, for comparing; None: the label does not say.

        Unknown sizes of a known type count as the type (`Q4_K_XL` as `Q4_K`), unknown types by their digit.
        """
        name = self.removeprefix(_DYNAMIC)
        while name and name not in _BITS_PER_WEIGHT:
            name = name.rpartition("_")[0]
        digit = re.search(r"\d", self)
        return _BITS_PER_WEIGHT.get(name) or (float(digit[0]) + 0.5 if digit and digit[0] != "0" else None)


def read_label(file_name: str) -> Quantization | None:
    """The quantization that a file or folder name states; None: none, as of glued spellings (`Q4KExperts`).

    Of several, one that llama.cpp quantizes to (`Q4_K_M`) wins over a float format, its source (`f16.gguf.Q4_K_M`), and
    that over formats of checkpoints (`FP8`) and a bare `Q4` inside a model's name; of equals the last, where the ggml
    naming document puts the encoding. `QAT-Q4_0` says what the model was trained for and yields to any other.
    """
    start, end = _label_span(file_name)
    return Quantization(file_name[start:end]) if start < end else None


def _label_span(file_name: str) -> tuple[int, int]:
    """Where the label begins and ends; the end of the name if there is none."""
    found: list[tuple[int, int, int]] = []
    for match in _LABEL.finditer(file_name):
        ends_the_name = match["bare"] and file_name[match.end() :].lower() in _ENDINGS
        rank = 3 if ends_the_name else _RANKS[match.lastgroup or ""]
        found.append((rank, *match.span()))
    if len(found) > 1:
        found = [label for label in found if not _TRAINED_FOR.search(file_name, 0, label[1])] or found
    return max(found)[1:] if found else (len(file_name), len(file_name))


SplitKind = Literal["gguf-split", "bytes"]

# Raw parts, to be joined with `cat`. mradermacher: `.gguf.part1of2`. TheBloke: `.gguf-split-a`. split(1): `.gguf.aa`,
# `.gguf.001`. `-chunk-001-of-018.gguf` keeps the ending although only its first part has a header.
# llama.cpp's gguf-split writes `<prefix>-%05d-of-%05d.gguf`, numbers from 1 (llama_split_path in src/llama.cpp);
# uploaders also write other numbers of digits by hand, and sets of more than 1,000 shards exist.
MOST_PIECES: Final = 65_535
"""Of one file or model: llama.cpp keeps their number in 16 bits, and what is missing is listed."""
_WORD: Final = r"(?:part|split|chunk|piece)"
_NUMBER: Final = r"(?P<number>\d{1,9})"
_TOTAL: Final = r"(?P<total>\d{1,9})"
_PATTERNS: Final[tuple[tuple[SplitKind, str], ...]] = (
    ("bytes", rf"(?P<base>.+)\.gguf(?P<style>[-._]{_WORD}?[-._]?){_NUMBER}[-._]?of[-._]?{_TOTAL}"),
    ("bytes", rf"(?P<base>.+)\.gguf(?P<style>[-._]{_WORD}[-._]?)(?P<number>[a-z]{{1,3}}|\d{{1,9}})(?P<total>)"),
    ("bytes", r"(?P<base>.+)\.gguf(?P<style>[-._])(?P<number>\d{1,9}|[a-z]|a[a-z]|aa[a-z])(?P<total>)"),
    ("bytes", rf"(?P<base>.+)(?P<style>[-._](?:chunk|piece)[-._]?){_NUMBER}[-._]of[-._]{_TOTAL}\.gguf"),
    ("bytes", rf"(?P<base>.+)(?P<style>[-._]part){_NUMBER}of{_TOTAL}\.gguf"),
    ("gguf-split", rf"(?P<base>.*?)(?P<style>^|[-._]){_NUMBER}[-_]of[-_]{_TOTAL}\.gguf"),
)
_SPLITS: Final = tuple((kind, re.compile(pattern, re.IGNORECASE | re.ASCII)) for kind, pattern in _PATTERNS)
_SIZE: Final = re.compile(r"(?<![A-Za-z0-9.])[EA]?\d+(?:[.]\d+)?(?:x\d+(?:[.]\d+)?)?[BM](?![A-Za-z0-9])", re.IGNORECASE)


class Split(Value, frozen=True):
    """One file's place in a split set."""

    kind: SplitKind  # how the set was cut
    number: int  # as in the name, letters counted from `a` = 1; 0 occurs
    total: int | None  # files in the set; None: the name does not say
    style: str  # its spelling, which files of one set share


class FileName(Value, frozen=True, dict=True):
    """A path in a repository, taken apart."""

    path: str
    folder: str  # the part before the last `/`; empty at the root
    stem: str  # the name without `.gguf` and piece number; the whole name of other files
    is_gguf: bool  # whether it is a GGUF file or a piece of one
    split: Split | None  # its place in a set; None for a file that is whole by itself

    @cached_property
    def label(self) -> Quantization | None:
        """The quantization that the file's name states, else that of the nearest folder that states one."""
        return next(filter(None, map(read_label, (self.stem, *reversed(self.folder.split("/"))))), None)

    @property
    def place(self) -> str:
        """The path under which it is stored: for a part of a byte split, that of the joined file."""
        is_part = self.split is not None and self.split.kind == "bytes"
        return "/".join(filter(None, (self.folder, f"{self.stem}.gguf"))) if is_part else self.path

    @property
    def whole(self) -> tuple[object, ...]:
        """What the files of one split set share; of any other file its path."""
        split = self.split
        return (self.folder, self.stem, split.kind, split.total, split.style) if split else (self.path,)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of the stem in lower case."""
        return _words(self.stem)

    @property
    def words_after_label(self) -> tuple[str, ...]:
        """The words behind the label of the name; none if it has no label."""
        return _words(self.stem[_label_span(self.stem)[1] :])

    @cached_property
    def base_words(self) -> tuple[str, ...]:
        """The words without the label: what names the model."""
        start, end = _label_span(self.stem)
        return _words(self.stem[:start]) + _words(self.stem[end:])

    @cached_property
    def model(self) -> tuple[str, ...]:
        """What the quantizations of one model share: the words of its folders and its name, without labels."""
        folders = (FileName("", "", folder, False, None) for folder in self.folder.split("/"))
        words = (word for folder in folders for word in folder.base_words)
        return (*(word for word in words if word not in self.base_words), *self.base_words)

    @cached_property
    def size_words(self) -> frozenset[str]:
        """The numbers of parameters in the name: `4b`, `e2b`, `0.6b`, `30b` and `a3b`."""
        return frozenset(word.lower() for word in _SIZE.findall(self.stem))

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """Its folders, from the root, in lower case."""
        return tuple(part.lower() for part in self.folder.split("/") if part)


@lru_cache(maxsize=8192)  # a listing's paths are taken apart by several rules
def parse_path(path: str) -> FileName:
    """Interprets a path; every text is a path."""
    folder, _, name = path.rpartition("/")
    for kind, pattern in _SPLITS:
        if (match := pattern.fullmatch(name)) is None:
            continue
        number, total = match["number"].lower(), match["total"]
        place = _ordinal(number)
        if place <= int(total or MOST_PIECES) <= MOST_PIECES and (place or not total):
            spelling = len(total) if kind == "gguf-split" else "" if number.isdigit() else "a" * len(number)
            split = Split(kind, place, int(total) if total else None, f"{match['style'].lower()}{spelling}")
            return FileName(path, folder, match["base"], is_gguf=True, split=split)
    is_gguf = len(name) > len(".gguf") and name.lower().endswith(".gguf")
    return FileName(path, folder, name[: -len(".gguf")] if is_gguf else name, is_gguf, None)


def _ordinal(text: str) -> int:
    """`1`, `01` and `a` are 1; `aa` is 1 too, because split(1) begins with it."""
    letters = (ord(letter) - ord("a") for letter in text)
    return int(text) if text.isdigit() else 1 + reduce(lambda value, letter: value * 26 + letter, letters, 0)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[\W_]+", text.lower()) if word)


# The name of a download: `owner/repo@revision:quantization`

# The Hub's own rule (huggingface_hub `validate_repo_id`), with the owner required: GGUF repositories have one.
REPO_ID: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?/[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPO_ID: Final = re.compile(REPO_ID)
_LONGEST_REPO_ID: Final = 96
_WITH_TAIL: Final = re.compile(r"(.*):([^/]+)", re.DOTALL)
MODELSCOPE: Final = "ms--"
"""Begins the owner of a repository of ModelScope in our ids and folders; no owner on the Hub has `--` in its name."""
_MODELSCOPE_PREFIX: Final = re.compile(
    r"^(?:ms://|(?:https?://)?(?:www\.)?modelscope\.cn/(?:models/|(?=[^/]+/[^/]+$)))", re.IGNORECASE
)


class DownloadId(Value, frozen=True):
    """Names one download.

    Attributes:
        repo_id: `owner/name` as the Hub has it.
        quantization: The variant: its label, or its file stem if several have that label; None: gglib_nb chooses.
        revision: Branch, tag or commit as requested; None: the default branch.
    """

    repo_id: str
    quantization: str | None = None
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses any text; the quantization is what follows the last `:` whose tail is non-empty and has no `/`."""
        check_text("The id", text)
        text = canonical(text)
        found = _WITH_TAIL.fullmatch(text)
        head, tail = (text, None) if found is None else found.groups()
        repo_id, _, revision = head.partition("@")
        return cls(repo_id, tail, revision or None)

    @property
    def group_id(self) -> str:
        """Its text form, by which all its shards are cancelled."""
        return str(self)

    @property
    def typed(self) -> str:
        """Its text form in a `%gguf` line: in quotation marks if the name of its variant has a space."""
        return shlex.quote(str(self))

    @override
    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        tail = "" if self.quantization is None else f":{self.quantization}"
        return f"{self.repo_id}{revision}{tail}"


def canonical(text: str) -> str:
    """`ms://owner/name`, or the address of its page, in the form of our ids; any other text as it is."""
    return _MODELSCOPE_PREFIX.sub(MODELSCOPE, text)


def modelscope_name(repo_id: str) -> str | None:
    """The name of a repository on ModelScope; None: it is one of the Hub."""
    name = canonical(repo_id)
    return name.removeprefix(MODELSCOPE) if name.startswith(MODELSCOPE) else None


def source_of(repo_id: str) -> str:
    """What serves a repository, for a sentence."""
    return "the Hub" if modelscope_name(repo_id) is None else "ModelScope"


def check_repo_id(repo_id: str) -> None:
    """Refuses, with an `InvalidRepoIdError`, an id that is not of the form `owner/name`, before the Hub is asked."""
    name = modelscope_name(repo_id) or repo_id
    shaped = _REPO_ID.fullmatch(name) and ".." not in name and "--" not in name
    if not shaped or len(repo_id) > _LONGEST_REPO_ID:
        parsed = DownloadId.parse(repo_id)
        hint = "Write owner/name, as in the address of its page, or find it with %gguf search."
        if parsed.quantization and _REPO_ID.fullmatch(parsed.repo_id):
            hint = f"Write {parsed.repo_id!r}, and {parsed.quantization!r} as the quantization."
        raise InvalidRepoIdError(f"{repo_id!r} is not a repository id. {hint}")


# Where a file of a repository is stored: `<models>/<owner>/<repo>/<path in repo>`, as LM Studio expects it. Only this
# turns names from a hub into a path, so it refuses hostile ones: everywhere those that leave the folder on Windows or
# on POSIX (machines may share it, as in huggingface_hub), and on Windows those that are impossible there.

# "Naming Files, Paths, and Namespaces" (Microsoft): device names, alone or before any extension.
_DEVICE: Final = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|COM[0-9¹²³]|LPT[0-9¹²³]) *(?:\..*)?", re.IGNORECASE | re.DOTALL
)
# Backslash and colon separate (UNC, drives, alternate streams); below U+0020 and from U+007F are NUL and the terminal's
# controls; the others end a line or turn its direction, so that `\u202efugg.exe` is read as `exe.gguf`.
_FORBIDDEN: Final = re.compile("[\\\\:\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_FORBIDDEN_ON_WINDOWS: Final = re.compile(r'[<>"|?*]')
# Of Linux and macOS alike; a longer name cannot be written.
_LONGEST_NAME_BYTES: Final = 255
# `.part.lease.` and 16 digits, beside a target during its download.
_LONGEST_SUFFIX_CHARACTERS: Final = len(".part.lease.") + 16
_MOST_SHOWN: Final = 120
_Path = TypeVar("_Path", bound=PurePath)


def target_path(models_directory: _Path, repo_id: str, path_in_repo: str) -> _Path:
    """The path of a file of a repository, absolute if the models folder is.

    Raises `InvalidRepoIdError`, or `RequestError` if it could be outside of the repository's folder, or no file at all.
    """
    check_repo_id(repo_id)
    parts = (*repo_id.split("/"), *path_in_repo.split("/"))
    for part in parts:
        if (reason := _refusal(part, is_windows=isinstance(models_directory, PureWindowsPath))) is not None:
            raise RequestError(
                f"{repo_id} lists a file under the name {_in_short(path_in_repo)}, which {reason}; it cannot be stored "
                "here."
            )
    return models_directory.joinpath(*parts)


def check_length(target: Path, longest_characters: int | None) -> None:
    """Refuses, with a `RequestError`, an absolute path whose partial file would be longer than this system allows."""
    length, most = len(str(target)), (longest_characters or 0) - _LONGEST_SUFFIX_CHARACTERS
    if longest_characters is not None and length > most:
        raise RequestError(
            f"{_in_short(str(target))} has {length} characters; on Windows the path of a model can have at most "
            f"{most}. Choose a shorter models folder, then queue it again."
        )


def _in_short(path: str) -> str:
    return repr(path) if len(path) <= _MOST_SHOWN else f"{path[:_MOST_SHOWN]!r}…"


def _refusal(part: str, *, is_windows: bool) -> str | None:
    """Why this name between two slashes cannot be used; None: it can."""
    length_bytes = len(part.encode(errors="replace"))
    faults = {
        "has an empty part": not part,
        "contains a backslash, a colon, or a control character": _FORBIDDEN.search(part),
        "contains a character that Windows does not allow": is_windows and _FORBIDDEN_ON_WINDOWS.search(part),
        # `.` and `..` too; Windows strips these, and then two names are one file.
        "has a part that ends in a dot or a space": part.endswith((".", " ")),
        "names a device on Windows": _DEVICE.fullmatch(part),
        "is not text": any("\ud800" <= character <= "\udfff" for character in part),
        f"has a part of more than {_LONGEST_NAME_BYTES} bytes": length_bytes > _LONGEST_NAME_BYTES,
    }
    return next((fault for fault, applies in faults.items() if applies), None)
