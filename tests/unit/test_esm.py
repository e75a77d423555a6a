"""The page's files become the one module a widget can have."""

import re
from collections import Counter
from pathlib import Path

import pytest

from gglib_nb.notebook import esm
from gglib_nb.notebook.esm import joined

ENTRY = Path(esm.__file__).parent / "static" / "panel.js"


def test_every_file_stands_after_what_it_imports(tmp_path):
    (tmp_path / "a.js").write_text('import { c } from "./c.js";\nexport const a = c + 1;\n')
    (tmp_path / "c.js").write_text("export const c = 1;\n")
    entry = tmp_path / "entry.js"
    entry.write_text('import { a } from "./a.js";\nimport {\n  c,\n} from "./c.js";\n\nexport default { a, c };\n')

    assert joined(entry) == "const c = 1;\n\nconst a = c + 1;\n\nexport default { a, c };\n"


def test_nothing_is_imported_and_one_thing_exported_by_the_panel():
    text = joined(ENTRY)

    assert re.findall(r"^(?:import|export)\b.*$", text, re.MULTILINE) == ["export default () => {"]


def test_no_name_is_declared_twice_at_the_top_of_the_joined_files():
    names = re.findall(r"^(?:async )?(?:const|let|function|class) (\w+)", joined(ENTRY), re.MULTILINE)

    assert [name for name, times in Counter(names).items() if times > 1] == []


@pytest.mark.parametrize("path", sorted(ENTRY.parent.glob("*.js")), ids=lambda path: path.name)
def test_every_file_says_first_what_it_is_for(path):
    assert path.read_text(encoding="utf-8").startswith("/**\n * ")
