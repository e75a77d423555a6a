"""Joins the page's scripts into the one module that a widget can have, without their comments.

A front end loads a widget's module from text, so an import in it leads nowhere (anywidget #78). The files in `static/` are
therefore plain scripts that share one scope, as `tsc` reads them, and one of them exports the widget: put one after another
they are a module. Lines that are nothing but a comment are left out, since the module is saved with every notebook that keeps
its widgets.
"""

from pathlib import Path


def joined(folder: Path, suffix: str) -> str:
    """All files of a folder with this suffix as one text.

    Raises:
        OSError: One of them cannot be read.
    """
    files = sorted(folder.glob(f"*{suffix}"))
    lines = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return "\n".join(line for line in lines if line and not _is_comment(line)) + "\n"


def _is_comment(line: str) -> bool:
    # A type in a comment before an expression begins a line that is more than a comment.
    is_block = line.startswith("/*") and ("*/" not in line or line.endswith("*/"))
    return is_block or line.startswith(("//", "*"))
