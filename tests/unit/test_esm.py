"""The page's scripts joined into the one module that a widget can have."""

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


def test_no_name_is_given_twice_at_the_top_of_the_scripts():
    names = [
        name
        for script in SCRIPTS
        for name in re.findall(r"^(?:async )?(?:const|class|function) (\w+)", script.read_text(), re.MULTILINE)
    ]

    assert len(set(names)) == len(names)


def test_comments_and_this_machines_paths_are_left_out():
    for text in (joined(STATIC, ".js"), joined(STATIC, ".css")):
        assert not re.search(r"^\s*(//|\*|/\*.*\*/$)", text, re.MULTILINE)
        assert str(Path.home()) not in text


def test_a_comment_begins_and_ends_its_lines_so_that_leaving_it_out_leaves_no_half():
    for file in [*SCRIPTS, *STATIC.glob("*.css")]:
        depth = 0
        for line in file.read_text().splitlines():
            text = line.strip()
            assert depth == 0 or text.startswith("*"), (file.name, line)
            depth += (text.startswith("/*") and "*/" not in text) - (depth > 0 and text.endswith("*/"))
        assert depth == 0


def test_the_saved_page_stays_small():
    assert len(joined(STATIC, ".js").encode()) + len(joined(STATIC, ".css").encode()) < 95_000
