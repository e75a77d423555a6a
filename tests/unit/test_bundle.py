"""The manifest of a bundle: it is read back unchanged, and a hostile one is refused before anything is written."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.importing import BundledFile, BundledModel, BundleManifest, decode_manifest, encode_manifest
from gglib_nb.errors import RequestError

SHA = "a" * 64


def a_file(**changes):
    return msgspec.structs.replace(BundledFile("q/m-Q4_K_M.gguf", "shard", 1_000, SHA), **changes)


def a_manifest(*files, **changes):
    model = BundledModel("owner/repo:Q4_K_M", "c" * 40, "Q4_K_M", "mit", "README.md", files or (a_file(),))
    return BundleManifest((msgspec.structs.replace(model, **changes),))


def test_a_manifest_is_unchanged_after_writing_and_reading():
    manifest = a_manifest(a_file(), a_file(path_in_repo="mmproj.gguf", kind="mmproj", part_bytes=(600, 400)))

    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_exporting_a_model_again_replaces_its_entry():
    first, second = a_manifest().models[0], a_manifest(licence="apache-2.0").models[0]

    manifest = BundleManifest().with_model(first).with_model(second)

    assert manifest.models == (second,)


def test_parts_are_stored_next_to_the_file_under_its_name():
    assert a_file(part_bytes=(600, 400)).stored_paths == ("q/m-Q4_K_M.gguf.part1of2", "q/m-Q4_K_M.gguf.part2of2")
    assert a_file().stored_paths == ("q/m-Q4_K_M.gguf",)


@pytest.mark.parametrize(
    "manifest",
    [
        a_manifest(a_file(path_in_repo="../../.bashrc")),
        a_manifest(a_file(path_in_repo="/etc/passwd")),
        a_manifest(a_file(path_in_repo="C:\\windows")),
        a_manifest(a_file(path_in_repo="con.gguf")),
        a_manifest(card="../README.md"),
        a_manifest(id="../../up:Q4"),
        a_manifest(id="owner"),
        a_manifest(commit_sha="not a commit"),
        a_manifest(a_file(sha256="A" * 64)),
        a_manifest(a_file(sha256="")),
        a_manifest(a_file(size_bytes=-1)),
        a_manifest(a_file(kind="virus")),
        a_manifest(a_file(part_bytes=(600, 300))),
        a_manifest(a_file(part_bytes=(1_000, 0))),
        a_manifest(a_file(), a_file(path_in_repo="q/M-q4_k_m.GGUF")),
        a_manifest(a_file(kind="mmproj")),
        msgspec.structs.replace(a_manifest(), format=2),
    ],
    ids=lambda manifest: str(manifest)[-120:],
)
def test_an_invalid_manifest_is_refused(manifest):
    with pytest.raises(RequestError):
        decode_manifest(encode_manifest(manifest))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_as_a_manifest_or_refused(data):
    try:
        decode_manifest(data)
    except RequestError:
        return


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"models":[' * 10_000, b"\xff", b"null", b'{"models":7}'])
def test_garbage_is_refused_in_one_sentence(data):
    with pytest.raises(RequestError, match="Export the bundle again"):
        decode_manifest(data)
