"""Prints every text that users read: help, the queue as text, and each sentence in the code with its values as {…}.

python tools/words.py
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import gglib_nb.notebook.verbs  # noqa: E402, F401 - fills the table of verbs
from gglib_nb.notebook.render import render_text  # noqa: E402 - found through the line above
from gglib_nb.notebook.verb import all_verbs, help_of_all  # noqa: E402
from tests.support import scenes  # noqa: E402

# The demo hub uses the Hub's messages, and the engine's protocol is read by programs.
_SKIPPED = ("demo/", "engine/protocol.py", "engine/reports.py")
_WORDS = re.compile(r"[A-Za-z]{2,}[,;:]? (?:[a-z{…}'\d%/`-]+[,;:]? ?)+")
_CODE = re.compile(
    r"^\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|PRAGMA|ALTER|WITH|DROP|<|\(\()|linear-gradient|\n\s{4,}|:.*;.*:"
)


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every text of a module with its line: strings of several words that are neither documentation nor code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("debug", "execute", "compile"):
            skipped |= {id(argument) for argument in node.args}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        text = _text_of(node)
        if text and _WORDS.search(text) and not _CODE.search(text):
            yield node.lineno, text  # type: ignore[attr-defined]  # an expression has a line


def _text_of(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "{…}" for part in node.values)
        return "".join(map(str, parts))
    return ""


def sentences() -> Iterator[tuple[str, list[str]]]:
    """The texts of every module of the package with any."""
    package = ROOT / "gglib_nb"
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith(_SKIPPED):
            texts = [text for _, text in sorted(texts_of(path))]
            if texts:
                yield name, list(dict.fromkeys(texts))


def pictures() -> Iterator[tuple[str, str]]:
    """The queue as text in every scene that has one."""
    for name, scene in sorted(vars(scenes).items()):
        if callable(scene) and getattr(scene, "__module__", "") == scenes.__name__ and not name.startswith("_"):
            try:
                manager = scene()
            except TypeError:  # a scene that needs an argument
                continue
            if hasattr(manager, "snapshot"):
                yield name, render_text(manager.snapshot)


def golden() -> str:
    """The queue as text in every scene, as in tests/golden.txt."""
    return "\n".join(f"[{name}]\n{text}\n" for name, text in pictures())


def main() -> None:
    """Prints them all."""
    if "--store" in sys.argv:
        (ROOT / "tests" / "golden.txt").write_text(golden(), encoding="utf-8")
        return
    print("# Help\n", help_of_all(), *(verb.help for verb in all_verbs()), sep="\n\n")
    print(f"\n# The queue\n\n{golden()}")
    print("# Sentences\n")
    for name, texts in sentences():
        print(f"[{name}]", *texts, "", sep="\n")


if __name__ == "__main__":
    main()
