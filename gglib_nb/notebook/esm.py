"""Joins the page's files into the one module that a widget can have.

A front end loads a widget's module from text, so a relative import in it has nowhere to lead (anywidget #78). The files
in `static/` are real modules all the same, for readers, `tsc` and tests; here they are put one after another, each after
what it imports, without their import lines and export words. They share one scope then: top-level names are unique
among them, which a test checks. Knows nothing of what the files do.
"""

import re
from pathlib import Path
from typing import Final

_IMPORT: Final = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=async |class |const |function )", re.MULTILINE)


def joined(entry: Path) -> str:
    """The text of the module at `entry` with everything it imports, directly or not, before it.

    Raises:
        OSError: One of the files is not there.
    """
    parts: dict[Path, str] = {}
    _gather(entry, parts)
    return "\n".join(parts.values())


def _gather(path: Path, parts: dict[Path, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for name in _IMPORT.findall(text):
        imported = path.with_name(f"{name}.js")
        if imported not in parts:
            _gather(imported, parts)
    parts[path] = _EXPORT.sub("", _IMPORT.sub("", text)).strip() + "\n"
