"""The page's scripts, joined into the single module of the widget."""

import re
from pathlib import Path

import gglib_nb.notebook as package
from gglib_nb.notebook.panel import joined

STATIC = Path(package.__file__).parent / "static"
SCRIPTS = sorted(STATIC.glob("*.js"))


def test_the_module_has_one_export_and_no_import():
    text = joined(STATIC, ".js")

    assert re.findall(r"^export \w+", text, re.MULTILINE) == ["export default"]
    assert not re.search(r"^import ", text, re.MULTILINE)


def test_top_level_names_are_unique_across_scripts():
    names = [
        name
        for script in SCRIPTS
        for name in re.findall(r"^(?:async )?(?:const|class|function) (\w+)", script.read_text(), re.MULTILINE)
    ]

    assert len(set(names)) == len(names)


def test_comments_and_local_paths_are_removed():
    for text in (joined(STATIC, ".js"), joined(STATIC, ".css")):
        assert not re.search(r"^\s*(//|\*|/\*.*\*/$)", text, re.MULTILINE)
        assert str(Path.home()) not in text


def test_block_comments_occupy_whole_lines():
    for file in [*SCRIPTS, *STATIC.glob("*.css")]:
        depth = 0
        for line in file.read_text().splitlines():
            text = line.strip()
            assert depth == 0 or text.startswith("*"), (file.name, line)
            depth += (text.startswith("/*") and "*/" not in text) - (depth > 0 and text.endswith("*/"))
        assert depth == 0


def test_the_saved_page_stays_small():
    assert len(joined(STATIC, ".js").encode()) + len(joined(STATIC, ".css").encode()) < 95_000
