"""The lines that load a model that is here into another program. Pure text; nothing is run and nothing is looked up.

What each program takes, by its own documentation: the constructor of `llama_cpp.Llama`; `llama-server --help` and
docs/speculative.md of llama.cpp; Ollama's docs/modelfile.mdx and parser (several `FROM` lines name shards and
projector, `DRAFT` a draft); `lms import --help`; the GGUF pages of transformers and vLLM; llama-swap's config.yaml;
`ramalama serve`. llama.cpp opens the first shard and finds the others beside it; transformers and vLLM take no split
model.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Final, Literal, get_args

from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.model import Model
from gglib_nb.errors import RequestError

Program = Literal[
    "llama-cpp-python", "llama-server", "llama-swap", "ollama", "lmstudio", "ramalama", "vllm", "transformers"
]
PROGRAMS: Final[tuple[Program, ...]] = get_args(Program)
# What a Modelfile takes without quotes; a line's end in a path must not end the file.
_PLAIN: Final = re.compile(r"[\w@%+=:,./~-]+")
# `--spec-type` of llama-server by the architecture of a draft, or by a word of its name.
_SPEC_TYPES: Final = {
    "eagle3": "draft-eagle3", "eagle": "draft-eagle3", "dflash": "draft-dflash", "mtp": "draft-mtp",
    "nextn": "draft-mtp",
}  # fmt: skip


def loading_lines(model: Model, program: str) -> str:
    """The line, or the few lines, that load a model.

    Args:
        model: A registered one.
        program: One of `PROGRAMS`.

    Raises:
        RequestError: There is no such program.
    """
    found = next((one for one in PROGRAMS if one == program), None)
    if found is None:
        raise RequestError(f"{program!r} is not a known program. Choose {', '.join(PROGRAMS)}.")
    return _LINES[found](model)


def python_lines(path: str, projector: str | None) -> str:
    """The lines of Python that open a model with llama-cpp-python.

    Args:
        path: The file to open.
        projector: Its mmproj; None without one.
    """
    opened = _quoted(path)
    if projector is None:
        return f"from llama_cpp import Llama\nllm = Llama(model_path={opened})"
    return "\n".join(
        (
            "from llama_cpp import Llama",
            "from llama_cpp.llama_chat_format import MTMDChatHandler",
            f"llm = Llama(model_path={opened}, chat_handler=MTMDChatHandler(clip_model_path={_quoted(projector)}))",
        )
    )


def server_options(model: Model) -> dict[str, str]:
    """The long options of llama-server, without their dashes, that name the files of a model."""
    options = {"model": model.paths[0]}
    if model.projector_path is not None:
        options["mmproj"] = model.projector_path
    if model.draft_path is not None:
        options |= {"spec-draft-model": model.draft_path, "spec-type": _spec_type(model)}
    return options


def _spec_type(model: Model) -> str:
    draft = next(file for file in model.files if file.kind == "draft")
    words = (str(draft.facts.get("architecture")), *parse_path(PurePath(draft.target).name).words)
    return next((_SPEC_TYPES[word] for word in words if word in _SPEC_TYPES), "draft-simple")


def _llama_cpp_python(model: Model) -> str:
    return python_lines(model.paths[0], model.projector_path)


def _llama_server(model: Model) -> str:
    return shlex.join(["llama-server", *_server_arguments(model)])


def _server_arguments(model: Model) -> list[str]:
    short = {"model": "-m", "mmproj": "--mmproj", "spec-draft-model": "-md", "spec-type": "--spec-type"}
    return [word for key, value in server_options(model).items() for word in (short[key], value)]


def _llama_swap(model: Model) -> str:
    command = f"llama-server --port ${{PORT}} {shlex.join(_server_arguments(model))}"
    return f"# in config.yaml\nmodels:\n  {_quoted(str(model.id))}:\n    cmd: {_quoted(command)}"


def _ollama(model: Model) -> str:
    name = _ollama_name(model)
    sources = [*model.paths, *filter(None, [model.projector_path])]
    split = ["# split files: Ollama 0.30 or newer"] if len(model.paths) > 1 else []
    return "\n".join(
        (
            *split,
            "cat > Modelfile <<'END'",
            *(f"FROM {_of_modelfile(path)}" for path in sources),
            *(f"DRAFT {_of_modelfile(path)}" for path in filter(None, [model.draft_path])),
            "END",
            shlex.join(["ollama", "create", name, "-f", "Modelfile"]),
            shlex.join(["ollama", "run", name]),
        )
    )


def _of_modelfile(path: str) -> str:
    return path if _PLAIN.fullmatch(path) else _quoted(path)


def _ollama_name(model: Model) -> str:
    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "model"

    stem = model.id.repo_id.rpartition("/")[2]
    tag = model.id.quantization
    return plain(stem) if tag is None else f"{plain(stem)}:{plain(tag)}"


def _lmstudio(model: Model) -> str:
    """A link in LM Studio's own folder for each file: nothing is moved, and nothing takes space twice."""
    command = ["lms", "import", "--yes", "--symbolic-link", "--user-repo", model.id.repo_id]
    return "\n".join(shlex.join([*command, file.target]) for file in model.files if file.kind in ("shard", "mmproj"))


def _ramalama(model: Model) -> str:
    return shlex.join(["ramalama", "serve", f"file://{model.paths[0]}"])


def _vllm(model: Model) -> str:
    before, path = _joined(model)
    about = "# needs the package vllm-gguf-plugin; the tokenizer of the base model loads faster: --tokenizer OWNER/NAME"
    return "\n".join((about, *before, shlex.join(["vllm", "serve", path])))


def _transformers(model: Model) -> str:
    before, path = _joined(model)
    folder, name = str(PurePath(path).parent), PurePath(path).name
    where = f"{_quoted(folder)}, gguf_file={_quoted(name)}"
    return "\n".join(
        (
            *(f"# first, in a shell: {line}" for line in before),
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            f"tokenizer = AutoTokenizer.from_pretrained({where})",
            f"model = AutoModelForCausalLM.from_pretrained({where})",
        )
    )


def _joined(model: Model) -> tuple[list[str], str]:
    """What joins a split model for programs that take a single file, and the path of that file."""
    if len(model.paths) == 1:
        return [], model.paths[0]
    joined = f"./{_ollama_name(model).replace(':', '-')}.gguf"
    return [shlex.join(["llama-gguf-split", "--merge", model.paths[0], joined])], joined


def _quoted(text: str) -> str:
    """A string as Python, JSON and YAML write it, on one line."""
    return json.dumps(text, ensure_ascii=False)


_LINES: Final[Mapping[Program, Callable[[Model], str]]] = {
    "llama-cpp-python": _llama_cpp_python,
    "llama-server": _llama_server,
    "llama-swap": _llama_swap,
    "ollama": _ollama,
    "lmstudio": _lmstudio,
    "ramalama": _ramalama,
    "vllm": _vllm,
    "transformers": _transformers,
}
