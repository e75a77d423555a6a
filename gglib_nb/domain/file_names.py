"""What one path in a repository says: folder, stem, label, and whether it is one piece of a larger file."""

import re
from functools import cached_property, lru_cache
from typing import Final, Literal

from gglib_nb.domain.quantization import Quantization, read_label
from gglib_nb.domain.values import Value

SplitKind = Literal["gguf-split", "bytes"]

# Raw parts, to be joined with `cat`. mradermacher: `.gguf.part1of2`. TheBloke: `.gguf-split-a`. split(1): `.gguf.aa`,
# `.gguf.001`. `-chunk-001-of-018.gguf` keeps the ending although only its first part has a header.
# llama.cpp's gguf-split writes `<prefix>-%05d-of-%05d.gguf`, numbers from 1 (llama_split_path in src/llama.cpp);
# uploaders also write other numbers of digits by hand, and sets of more than 1,000 shards exist.
_WORD: Final = r"(?:part|split|chunk|piece)"
_PATTERNS: Final[tuple[tuple[SplitKind, str], ...]] = (
    (
        "bytes",
        rf"(?P<base>.+)\.gguf(?P<style>[-._]{_WORD}?[-._]?)(?P<number>\d{{1,9}})[-._]?of[-._]?(?P<total>\d{{1,9}})",
    ),
    ("bytes", rf"(?P<base>.+)\.gguf(?P<style>[-._]{_WORD}[-._]?)(?P<number>[a-z]{{1,3}}|\d{{1,9}})(?P<total>)"),
    ("bytes", r"(?P<base>.+)\.gguf(?P<style>[-._])(?P<number>\d{1,9}|[a-z]|a[a-z]|aa[a-z])(?P<total>)"),
    (
        "bytes",
        r"(?P<base>.+)(?P<style>[-._](?:chunk|piece)[-._]?)(?P<number>\d{1,9})[-._]of[-._](?P<total>\d{1,9})\.gguf",
    ),
    ("bytes", r"(?P<base>.+)(?P<style>[-._]part)(?P<number>\d{1,9})of(?P<total>\d{1,9})\.gguf"),
    ("gguf-split", r"(?P<base>.+?)(?P<style>[-._])(?P<number>\d{1,9})[-_]of[-_](?P<total>\d{1,9})\.gguf"),
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
        for name in (self.stem, *reversed(self.folder.split("/"))):
            if (label := read_label(name)) is not None:
                return label
        return None

    @property
    def place(self) -> str:
        """The path under which it is stored: for a part of a byte split, that of the joined file."""
        if self.split is None or self.split.kind != "bytes":
            return self.path
        return "/".join(filter(None, (self.folder, f"{self.stem}.gguf")))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of the stem in lower case."""
        return _words(self.stem)

    @cached_property
    def label_span(self) -> range:
        """Which of the words are the label; empty, after the last, if the name itself has none."""
        return _label_span(self.stem, self.words)

    @cached_property
    def base_words(self) -> tuple[str, ...]:
        """The words without the label: what names the model."""
        return self.words[: self.label_span.start] + self.words[self.label_span.stop :]

    @cached_property
    def model(self) -> tuple[str, ...]:
        """What the quantizations of one model share: the words of its folders and its name, without labels."""
        words = (word for folder in self.folder.split("/") for word in _without_label(folder))
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
    if (cut := _split(name)) is not None:
        return FileName(path, folder, cut[0], is_gguf=True, split=cut[1])
    is_gguf = len(name) > len(".gguf") and name.lower().endswith(".gguf")
    return FileName(path, folder, name[: -len(".gguf")] if is_gguf else name, is_gguf, None)


def _without_label(folder: str) -> tuple[str, ...]:
    words = _words(folder)
    span = _label_span(folder, words)
    return words[: span.start] + words[span.stop :]


def _label_span(name: str, words: tuple[str, ...]) -> range:
    label = read_label(name)
    # `F16` is the canonical spelling of `fp16` too.
    for spelled in (label, label.replace("F", "FP")) if label else ():
        of_label = _words(spelled)
        for start in reversed(range(len(words) - len(of_label) + 1)):
            if words[start : start + len(of_label)] == of_label:
                return range(start, start + len(of_label))
    return range(len(words), len(words))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[\W_]+", text.lower()) if word)


def _split(name: str) -> tuple[str, Split] | None:
    """The stem and the place of a piece; None: the name is of no piece."""
    for kind, pattern in _SPLITS:
        if (match := pattern.fullmatch(name)) is None:
            continue
        number, total = match["number"].lower(), match["total"]
        if total and not 1 <= int(number) <= int(total):
            continue
        spelling = len(total) if kind == "gguf-split" else "" if number.isdigit() else "a" * len(number)
        style = f"{match['style'].lower()}{spelling}"
        return match["base"], Split(kind, _ordinal(number), int(total) if total else None, style)
    return None


def _ordinal(text: str) -> int:
    """`1`, `01` and `a` are 1; `aa` is 1 too, because split(1) begins with it."""
    if text.isdigit():
        return int(text)
    value = 0
    for letter in text:
        value = value * 26 + ord(letter) - ord("a")
    return value + 1
