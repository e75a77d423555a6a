"""Which chat templates use Python introspection: templates are read as text and never run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.gguf_header import introspection

CHATML = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
    "{%- if loop.last and not add_generation_prompt %}{{ raise_exception('import nothing') }}{% endif %}{%- endfor %}"
)


@pytest.mark.parametrize(
    "template",
    [
        "",
        CHATML,
        "{% macro render(tool) %}{{ tool.name | tojson(indent=2) }}{% endmacro %}",
        "{{ 'You may import os and call subprocess.run().' }}",
        "Plain text: __class__ and {% raw",
        "{# a comment about __globals__ #}{{ bos_token }}",
        "{%- set ns = namespace(is_first=true) -%}{{ ns.is_first }}",
        "{{ strftime_now('%d %b %Y') }}",
    ],
)
def test_a_common_template_uses_no_introspection(template):
    assert introspection(template) == ()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", ("__class__", "__mro__", "__subclasses__")),
        ("{{ messages['__init__'] }}", ("__init__",)),
        ("{% import 'other' as o %}", ("import",)),
        ("{%- include name -%}", ("include",)),
        ("{%from 'a' import b%}", ("from",)),
        ("{{ x | attr('upper') }}", ("attr",)),
        ("{{ x|attr('__cla' ~ 'ss__') }}", ("attr",)),
        ("{{ cycler.__init__.__globals__.os.popen('id') }}", ("__init__", "__globals__", "cycler", "os", "popen")),
        ("{{ ''['__class'] }}", ("__class",)),
        ("{{ ''.__class__ ", ("__class__",)),
    ],
)
def test_a_template_that_accesses_python_internals_is_detected(template, expected):
    found = introspection(template)

    assert set(expected) <= set(found)


@given(st.text(max_size=500))
def test_any_text_is_read_without_an_error(template):
    introspection(template)


@given(st.text(alphabet="{}%#'\"\\_-", max_size=2_000))
def test_unfinished_blocks_and_strings_are_read_without_an_error(template):
    introspection(template)


def test_a_hostile_template_takes_linear_time():
    introspection("{{ '" * 60_000)
    introspection("{{" + "'\\" * 120_000)
    introspection("{#" * 120_000)
    introspection("{%" + " " * 240_000)
    introspection("{{" + "__a" * 80_000)
    introspection("{{" + "|attr" * 50_000)
