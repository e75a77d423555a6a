"""The lines that load a model that is here into another program. Pure text; nothing is run and nothing is looked up.

llama-cpp-python and llama-server open the first shard and find the others beside it; Ollama and LM Studio take paths
of their own. What each takes: the constructor of `llama_cpp.Llama`, `llama-server --help`, Ollama's docs/modelfile.md
(several `FROM` lines join a model and its projector), and `lms import --help`.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Final, Literal, get_args

from gglib_nb.domain.model import Model
from gglib_nb.errors import RequestError

Program = Literal["llama-cpp-python", "llama-server", "ollama", "lmstudio"]
# What a Modelfile takes without quotes; a line's end in a path must not end the file.
_PLAIN: Final = re.compile(r"[\w@%+=:,./~-]+")
PROGRAMS: Final[tuple[Program, ...]] = get_args(Program)


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
        raise RequestError(f"{program!r} is no program that is known here; choose {', '.join(PROGRAMS)}.")
    return _LINES[found](model)


def python_lines(path: str, projector: str | None) -> str:
    """The lines of Python that open a model with llama-cpp-python.

    Args:
        path: The file to open.
        projector: Its mmproj; None without one.
    """
    opened = json.dumps(path, ensure_ascii=False)
    if projector is None:
        return f"from llama_cpp import Llama\nllm = Llama(model_path={opened})"
    handler = f"Llava15ChatHandler(clip_model_path={json.dumps(projector, ensure_ascii=False)})"
    return "\n".join(
        (
            "from llama_cpp import Llama",
            "from llama_cpp.llama_chat_format import Llava15ChatHandler  # take the handler of the model's family",
            f"llm = Llama(model_path={opened}, chat_handler={handler})",
        )
    )


def _llama_cpp_python(model: Model) -> str:
    return python_lines(model.paths[0], model.projector_path)


def _llama_server(model: Model) -> str:
    projector = model.projector_path
    more = [] if projector is None else ["--mmproj", projector]
    return shlex.join(["llama-server", "-m", model.paths[0], *more])


def _ollama(model: Model) -> str:
    name = _ollama_name(model)
    source, before = model.paths[0], []
    if len(model.paths) > 1:
        source = f"{name.replace(':', '-')}.gguf"
        before = [
            "# Ollama takes no split model; this joins a copy of it:",
            shlex.join(["llama-gguf-split", "--merge", model.paths[0], source]),
        ]
        source = f"./{source}"
    sources = [source] if model.projector_path is None else [source, model.projector_path]
    return "\n".join(
        (
            *before,
            "cat > Modelfile <<'END'",
            *(f"FROM {each if _PLAIN.fullmatch(each) else json.dumps(each, ensure_ascii=False)}" for each in sources),
            "END",
            shlex.join(["ollama", "create", name, "-f", "Modelfile"]),
            shlex.join(["ollama", "run", name]),
        )
    )


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


_LINES: Final[Mapping[Program, Callable[[Model], str]]] = {
    "llama-cpp-python": _llama_cpp_python,
    "llama-server": _llama_server,
    "ollama": _ollama,
    "lmstudio": _lmstudio,
}
