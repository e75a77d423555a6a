"""The `models.ini` from which llama-server's router serves all local models. Pure: text and models in, text out.

The format is that of `--models-preset` (tools/server/README.md and common/preset.cpp of llama.cpp): a section for each
model, long options as keys, and no way to escape `;`, `#` or a line's end. Keys that name a model's files are ours and
kept up to date; every other line is the user's and stays as it is.
"""

import re
from collections.abc import Iterable
from typing import Final

from gglib_nb.domain.loading import server_options
from gglib_nb.domain.model import Model
from gglib_nb.domain.values import Value


class PresetFile(Value, frozen=True):
    """A `models.ini` that was written.

    Attributes:
        path: The file.
        model_count: Models in it.
        left_out: Ids of models whose paths hold `;`, `#` or a line's end, which the format cannot write.
    """

    path: str
    model_count: int
    left_out: tuple[str, ...]


_SECTION: Final = re.compile(r"\s*\[\s*(?P<name>[^]]*?)\s*\]")
_KEY: Final = re.compile(r"\s*(?P<key>[A-Za-z_][\w.-]*)\s*=")
_UNWRITABLE: Final = re.compile(r"[;#\r\n]|^\s|\s$")
_OURS: Final = frozenset({"model", "mmproj", "spec-draft-model", "spec-type"})
_MARK: Final = "; by gglib_nb, which keeps these lines up to date: "
_HEAD: Final = "version = 1\n"


def merged_preset(text: str, models: Iterable[Model]) -> tuple[str, tuple[str, ...]]:
    """The file with every model in it.

    A section without additions by a person is removed when its model is no longer registered.

    Args:
        text: What the file holds now; empty where there is none.
        models: The registered ones.

    Returns:
        The new text, and the ids of the models that cannot be written, because a path holds `;`, `#` or a line's end.
    """
    wanted = {str(model.id): server_options(model) for model in models}
    unwritable = tuple(id_ for id_, options in wanted.items() if any(map(_UNWRITABLE.search, options.values())))
    for id_ in unwritable:
        del wanted[id_]
    kept = []
    for name, lines in _sections(text or _HEAD):
        options = wanted.pop(name or "", None)
        if name is not None and options is not None:
            kept.append(_section(name, options, [line for line in lines if not _is_ours(line)]))
        elif any(line.startswith(_MARK) for line in lines) and all(
            _is_ours(line) or not line.strip() for line in lines
        ):
            continue
        else:
            kept.append("".join(([] if name is None else [f"[{name}]\n"]) + lines))
    added = [f"\n{_section(id_, options, [])}" for id_, options in wanted.items()]
    return "".join((*kept, *added)), unwritable


def _sections(text: str) -> list[tuple[str | None, list[str]]]:
    """The sections with their lines; the lines before the first have no name."""
    found: list[tuple[str | None, list[str]]] = [(None, [])]
    for line in text.splitlines(keepends=True):
        if match := _SECTION.match(line):
            found.append((match["name"], []))
        else:
            found[-1][1].append(line if line.endswith("\n") else f"{line}\n")
    return found if found[0][1] else found[1:]


def _is_ours(line: str) -> bool:
    key = _KEY.match(line)
    return line.startswith(_MARK) or (key is not None and key["key"] in _OURS)


def _section(name: str, options: dict[str, str], users: list[str]) -> str:
    lines = [f"{key} = {value}\n" for key, value in options.items()]
    return "".join((f"[{name}]\n", f"{_MARK}{', '.join(options)}\n", *lines, *users))
