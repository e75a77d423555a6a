"""Every file of the hand-labelled listings in its right group: 97 real repositories and 15 difficult invented ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from gglib_nb.domain.variants import Variants, variants_of


@pytest.fixture(scope="module", params=["listings", "constructed"])
def repositories(request: pytest.FixtureRequest, shared_data: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((shared_data / "listings" / f"{request.param}.json").read_text())
    return listed


def read(repository: dict[str, Any]) -> Variants:
    return variants_of((file["path"], file.get("size")) for file in repository["files"])


def test_every_variant_has_the_expected_files_label_and_completeness(repositories: list[dict[str, Any]]) -> None:
    expected = {
        repository["repo_id"]: sorted(
            (tuple(group["files"]), group["quant"] or "", group["shards_expected"], tuple(group.get("missing", ())))
            for group in repository["expected"]["groups"]
        )
        for repository in repositories
    }

    found = {
        repository["repo_id"]: sorted(
            (variant.files, variant.quantization or "", variant.shards_expected, variant.missing)
            for variant in read(repository).variants
        )
        for repository in repositories
    }
    assert found == expected


def test_every_companion_has_the_expected_kind(repositories: list[dict[str, Any]]) -> None:
    expected = {
        repository["repo_id"]: {c["path"]: c["kind"] for c in repository["expected"]["companions"]}
        for repository in repositories
    }

    found = {
        repository["repo_id"]: {c.path: c.kind for c in read(repository).companions} for repository in repositories
    }
    assert found == expected


def test_raw_parts_are_recognized(repositories: list[dict[str, Any]]) -> None:
    expected = {
        tuple(group["files"])
        for repository in repositories
        for group in repository["expected"]["groups"]
        if group.get("split") == "bytes"
    }

    found = {
        variant.files
        for repository in repositories
        for variant in read(repository).variants
        if variant.split == "bytes"
    }
    assert found == expected
