"""The lines that load a local model into another program.

By each program's own documentation: the constructor of `llama_cpp.Llama`; `llama-server --help` and docs/speculative.md
of llama.cpp; Ollama's docs/modelfile.mdx (several `FROM` lines name shards and projector); `lms import --help`; the
GGUF pages of transformers and vLLM, which take no split model; llama-swap's config.yaml; `ramalama serve`.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Final

from gglib_nb.domain.model import Model
from gglib_nb.domain.names import parse_path
from gglib_nb.domain.values import Value
from gglib_nb.errors import RequestError

# Long options of llama-server that name a model's files, and their short forms.
_OPTIONS: Final = {"model": "-m", "mmproj": "--mmproj", "spec-draft-model": "-md", "spec-type": "--spec-type"}
# `--spec-type` of llama-server by a word of a draft's path (a DSpark has the architecture of a DFlash), or by that.
_SPEC_TYPES: Final = {
    "eagle3": "draft-eagle3", "eagle": "draft-eagle3", "dflash": "draft-dflash", "dspark": "draft-dspark",
    "mtp": "draft-mtp", "nextn": "draft-mtp", "gemma4-assistant": "draft-mtp", "assistant": "draft-mtp",
}  # fmt: skip


def loading_lines(model: Model, program: str) -> str:
    """The lines that load a model; a `RequestError` for a program that is not one of `PROGRAMS`."""
    if program not in _LINES:
        raise RequestError(f"{program!r} is not a known program. Choose {', '.join(PROGRAMS)}.")
    return _LINES[program](model)


def python_lines(path: str, projector: str | None) -> str:
    """The lines of Python that open a model with llama-cpp-python; `projector` is its mmproj, None: it has none."""
    imports, more = "from llama_cpp import Llama\n", ""
    if projector is not None:
        imports += "from llama_cpp.llama_chat_format import MTMDChatHandler\n"
        more = f", chat_handler=MTMDChatHandler(clip_model_path={_quoted(projector)})"
    return f"{imports}llm = Llama(model_path={_quoted(path)}{more})"


def server_options(model: Model) -> dict[str, str]:
    """The long options of llama-server, without dashes, that name the files of a model."""
    draft, spec_type = model.companion("draft"), None
    if draft is not None:
        name = parse_path(draft.path_in_repo)
        words = (*name.words, *name.folders, str(draft.facts.get("architecture")))
        spec_type = next((_SPEC_TYPES[word] for word in words if word in _SPEC_TYPES), "draft-simple")
    values = (model.paths[0], model.projector_path, model.draft_path, spec_type)
    return {option: value for option, value in zip(_OPTIONS, values, strict=True) if value is not None}


def _server_arguments(model: Model) -> list[str]:
    return [word for option, value in server_options(model).items() for word in (_OPTIONS[option], value)]


def _llama_swap(model: Model) -> str:
    command = f"llama-server --port ${{PORT}} {shlex.join(_server_arguments(model))}"
    return f"# in config.yaml\nmodels:\n  {_quoted(str(model.id))}:\n    cmd: {_quoted(command)}"


def _ollama(model: Model) -> str:
    name = _ollama_name(model)
    paths = (*(("FROM", path) for path in (*model.paths, model.projector_path)), ("DRAFT", model.draft_path))
    # A Modelfile's value is the rest of the line; nothing in it can be escaped (parser/parser.go of Ollama).
    files = (f"{word} {path if path.isprintable() else _quoted(path)}" for word, path in paths if path is not None)
    note = ["# split files: Ollama 0.30 or newer"] if len(model.paths) > 1 else []
    commands = (shlex.join(["ollama", *words]) for words in (["create", name, "-f", "Modelfile"], ["run", name]))
    return "\n".join((*note, "cat > Modelfile <<'END'", *files, "END", *commands))


def _ollama_name(model: Model) -> str:
    parts = filter(None, (model.id.repo_id.rpartition("/")[2], model.id.quantization))
    return ":".join(re.sub(r"[^a-z0-9._-]+", "-", part.lower()).strip("-._") or "model" for part in parts)


def _lmstudio(model: Model) -> str:
    """A link in LM Studio's own folder for each file: no copy, nothing is moved."""
    command = ["lms", "import", "--yes", "--symbolic-link", "--user-repo", model.id.repo_id]
    return "\n".join(shlex.join([*command, file.target]) for file in model.files if file.kind in ("shard", "mmproj"))


def _vllm(model: Model) -> str:
    before, path = _joined(model)
    about = "# needs the package vllm-gguf-plugin; the tokenizer of the base model loads faster: --tokenizer OWNER/NAME"
    return "\n".join((about, *before, shlex.join(["vllm", "serve", path])))


def _transformers(model: Model) -> str:
    before, path = _joined(model)
    where = f"{_quoted(str(PurePath(path).parent))}, gguf_file={_quoted(PurePath(path).name)}"
    return "".join(f"# first, in a shell: {line}\n" for line in before) + (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"tokenizer = AutoTokenizer.from_pretrained({where})\n"
        f"model = AutoModelForCausalLM.from_pretrained({where})"
    )


def _joined(model: Model) -> tuple[list[str], str]:
    """The command that joins a split model for programs that take a single file, and the path of that file."""
    joined = f"./{_ollama_name(model).replace(':', '-')}.gguf"
    if len(model.paths) == 1:
        return [], model.paths[0]
    return [shlex.join(["llama-gguf-split", "--merge", model.paths[0], joined])], joined


def _quoted(text: str) -> str:
    """A string as Python, JSON and YAML write it, on one line."""
    return json.dumps(text, ensure_ascii=False)


_LINES: Final[Mapping[str, Callable[[Model], str]]] = {
    "llama-cpp-python": lambda model: python_lines(model.paths[0], model.projector_path),
    "llama-server": lambda model: shlex.join(["llama-server", *_server_arguments(model)]),
    "llama-swap": _llama_swap,
    "ollama": _ollama,
    "lmstudio": _lmstudio,
    "ramalama": lambda model: shlex.join(["ramalama", "serve", f"file://{model.paths[0]}"]),
    "vllm": _vllm,
    "transformers": _transformers,
}
PROGRAMS: Final = tuple(_LINES)


# llama-server's router serves the models of a `models.ini` (`--models-preset`; common/preset.cpp of llama.cpp): a
# section for each, long options as keys, no way to escape `;`, `#` or a line end. Lines of other keys are the user's.
_SECTION: Final = re.compile(r"\s*\[\s*(?P<name>[^]]*?)\s*\]")
_UNWRITABLE: Final = re.compile(r"[;#\r\n]|^\s|\s$")
_MARK: Final = "; by gglib_nb, which keeps these lines up to date: "
_OURS: Final = re.compile(rf"{_MARK}|\s*(?:{'|'.join(_OPTIONS)})\s*=")
_HEAD: Final = "version = 1\n"


class PresetFile(Value, frozen=True):
    """A written `models.ini`; `left_out` has the ids of models whose id or path the format cannot write."""

    path: str
    model_count: int
    left_out: tuple[str, ...]


def merged_preset(text: str, models: Iterable[Model]) -> tuple[str, tuple[str, ...]]:
    """The file (`text`; empty: none) with every model in it, and the ids of models that cannot be written.

    A section without a user's lines is removed when its model is no longer registered.
    """
    wanted = {str(model.id): server_options(model) for model in models}
    unwritable = tuple(
        id_ for id_, options in wanted.items() if "]" in id_ or any(map(_UNWRITABLE.search, (id_, *options.values())))
    )
    for id_ in unwritable:
        del wanted[id_]
    merged = []
    for name, lines in _sections(text or _HEAD):
        options = wanted.pop(name or "", None)
        users = [line for line in lines if not _OURS.match(line)]
        is_ours = any(line.startswith(_MARK) for line in lines) and not "".join(users).strip()
        if name is not None and options is not None:
            merged.append(_section(name, options, users))
        elif not is_ours:
            merged += ([] if name is None else [f"[{name}]\n"]) + lines
    merged += [f"\n{_section(id_, options, [])}" for id_, options in wanted.items()]
    return "".join(merged), unwritable


def _sections(text: str) -> list[tuple[str | None, list[str]]]:
    """The sections with their lines; the lines before the first have no name."""
    found: list[tuple[str | None, list[str]]] = [(None, [])]
    for line in text.splitlines(keepends=True):
        if match := _SECTION.match(line):
            found.append((match["name"], []))
        else:
            found[-1][1].append(line if line.endswith("\n") else f"{line}\n")
    return found if found[0][1] else found[1:]


def _section(name: str, options: dict[str, str], users: list[str]) -> str:
    lines = [f"{key} = {value}\n" for key, value in options.items()]
    return "".join((f"[{name}]\n", f"{_MARK}{', '.join(options)}\n", *lines, *users))
