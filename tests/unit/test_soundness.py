"""Warnings about the content of a finished model."""

from dataclasses import replace

import pytest

from gglib_nb.domain.model import remark_on
from tests.support.catalog_models import model, stored

PLAIN = {"architecture": "llama", "has_chat_template": True, "chat_template_sha256": "a" * 64}


def with_facts(text="owner/repo:Q4_K_M", **facts):
    return model(text, stored(f"/models/{text}.gguf", facts=facts))


def test_an_ordinary_model_has_no_warnings():
    assert remark_on(with_facts(**PLAIN), [with_facts("owner/repo:Q8_0", **PLAIN)]) == ""


def test_an_embedding_model_without_a_template_has_no_warnings():
    assert remark_on(with_facts(architecture="nomic-bert", has_chat_template=False), []) == ""


def test_a_template_too_long_to_store_is_not_missing():
    assert remark_on(with_facts(architecture="llama", has_chat_template=True), []) == ""


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "not a GGUF"),
        ({"architecture": "llama", "has_chat_template": False}, "no chat template"),
        ({"architecture": "clip", "companion_kind": "mmproj"}, "a companion file (mmproj), not a model"),
        ({**PLAIN, "companion_kind": "adapter"}, "a companion file (adapter), not a model"),
        ({**PLAIN, "companion_kind": "x\x1b[2J"}, "a companion file (x [2J), not a model"),
        ({**PLAIN, "template_introspection": "__class__"}, "introspection (__class__)"),
        ({**PLAIN, "template_introspection": "__class__\x1b[2J"}, "__class__ [2J"),
        ({**PLAIN, "chat_template_sha256": "b" * 64}, "differs from that of Q8_0"),
    ],
    ids=[
        "no GGUF",
        "no template",
        "projector",
        "adapter",
        "hostile kind",
        "introspection",
        "hostile name",
        "another template",
    ],
)
def test_oddities_are_reported(facts, words):
    assert words in remark_on(with_facts(**facts), [with_facts("owner/repo:Q8_0", **PLAIN)])


def test_models_of_another_commit_or_repository_are_not_compared():
    one = with_facts(**PLAIN)
    other = {**PLAIN, "chat_template_sha256": "b" * 64}

    others = [
        with_facts("owner/other:Q8_0", **other),
        replace(with_facts("owner/repo:Q8_0", **other), commit_sha="d" * 40),
    ]

    assert remark_on(one, others) == ""
