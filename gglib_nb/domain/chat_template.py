"""What a chat template can do that a template should not. Templates are text here and are never run.

Programs that load a model run its template as Jinja code. Rendered outside a sandbox, a template that reaches Python's
introspection can run anything (CVE-2024-34359 of llama-cpp-python).
"""

import re
from typing import Final

# One Jinja block: a statement or an expression. Comments and the text between blocks are not run.
_BLOCK: Final = re.compile(r"\{#.*?(?:#\}|\Z)|\{[{%](.*?)(?:[}%]\}|\Z)", re.DOTALL)
# A literal that is not closed reaches to the end, so that a hostile template takes linear time.
_STRING: Final = re.compile(r"'(?:\\.|[^'\\])*+(?:'|\\?\Z)|\"(?:\\.|[^\"\\])*+(?:\"|\\?\Z)", re.DOTALL)
_DUNDER: Final = re.compile(r"__[A-Za-z]\w*")
_STATEMENT: Final = re.compile(r"\s*[-+]?\s*(import|include|from|extends)\b")
_CALL: Final = re.compile(r"\|\s*attr\b|\b(?:getattr|eval|exec|lipsum|cycler|joiner)\b\s*[(.\[]")
_REACHES: Final = re.compile(r"\b(?:os|sys|subprocess|builtins|popen|func_globals|mro)\s*[.(\[]")


def introspection(template: str) -> tuple[str, ...]:
    """The constructs of a template that reach beyond its data, each once, in their order; empty for a usual template.

    Looks at what Jinja would run: names such as `__class__`, the `attr` filter, and the statements `import`, `include`,
    `from` and `extends`. Text outside of blocks, comments, and words inside string literals (a prompt may well say
    "import") do not count, except for names with double underscores, which a subscript reaches through a literal.
    """
    found: dict[str, None] = {}
    for block in _BLOCK.finditer(template):
        code = block[1]
        if code is None:
            continue
        found.update(dict.fromkeys(name[0] for name in _DUNDER.finditer(code)))
        bare = _STRING.sub("''", code)
        if block[0].startswith("{%") and (statement := _STATEMENT.match(bare)):
            found[statement[1]] = None
        for pattern in (_CALL, _REACHES):
            found.update(dict.fromkeys(call[0].strip(" |(.[\t\n") for call in pattern.finditer(bare)))
    return tuple(found)
