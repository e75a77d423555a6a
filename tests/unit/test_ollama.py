"""Models named in Ollama's manifests, and hostile manifests."""

import json
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.importing import ollama_files, ollama_id

MODEL, PROJECTOR = "a" * 64, "b" * 64


def manifest(*layers):
    return json.dumps({"schemaVersion": 2, "config": {}, "layers": list(layers)}).encode()


def layer(kind, digest, size=1_000):
    return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": size}


def test_a_manifest_names_the_model_and_its_projector():
    data = manifest(
        layer("model", f"sha256:{MODEL}", 4_000),
        layer("template", "sha256:" + "c" * 64),
        layer("projector", f"sha256:{PROJECTOR}"),
    )

    assert ollama_files(data) == (("shard", MODEL, 4_000), ("mmproj", PROJECTOR, 1_000))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        manifest(),
        manifest(layer("projector", f"sha256:{PROJECTOR}")),
        manifest(layer("model", "sha256:../../../etc/passwd")),
        manifest(layer("model", f"sha256:{MODEL}\n")),
        manifest(layer("model", f"sha256:{MODEL}", -1)),
        b'{"layers": 7}',
    ],
    ids=lambda data: repr(data[:40]),
)
def test_a_manifest_without_a_model_gives_nothing(data):
    assert ollama_files(data) == ()


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(data):
    ollama_files(data)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("registry.ollama.ai/library/llama3.2/3b", "local/llama3.2:3b"),
        ("registry.ollama.ai/someone/tiny/latest", "local/someone-tiny:latest"),
        ("hf.co/owner/repo-GGUF/Q4_K_M", "owner/repo-GGUF:Q4_K_M"),
        ("huggingface.co/owner/repo-GGUF/latest", "owner/repo-GGUF"),
        ("modelscope.cn/owner/repo-GGUF/Q4_K_M", "ms--owner/repo-GGUF:Q4_K_M"),
    ],
)
def test_the_path_of_a_manifest_gives_the_model_name(path, expected):
    assert str(ollama_id(PurePosixPath(path))) == expected


@pytest.mark.parametrize(
    "path", ["llama3", "registry.ollama.ai/library/llama3", "hf.co/--/..--/x", "a/b/c/d/e", "r/library/---/x"]
)
def test_any_other_path_gives_no_model_name(path):
    assert ollama_id(PurePosixPath(path)) is None
