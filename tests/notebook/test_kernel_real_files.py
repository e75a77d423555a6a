"""Real GGUF files, downloaded with `%gguf queue` in a real kernel: the files equal those served."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from gglib_nb.demo import DemoFile, DemoRepository
from gglib_nb.demo.content import file_content
from tests.support.faulty_hub import FaultyHub
from tests.support.kernel import Kernel
from tests.support.models import sha256_of

SPLIT_PAIR = ("dummy-00001-of-00002.gguf", "dummy-00002-of-00002.gguf")
SINGLE_FILES = (
    "dummy.gguf",
    "ggml-vocab-aquila.gguf",
    "ggml-vocab-bert-bge.gguf",
    "ggml-vocab-llama-spm.gguf",
    "ggml-vocab-phi-3.gguf",
    "ggml-vocab-qwen2.gguf",
)
# Each file is the only model of its repository: a vocabulary next to a model would be its companion.
REPOSITORIES = {"real/split-pair": SPLIT_PAIR} | {
    f"real/{name.removesuffix('.gguf').removeprefix('ggml-vocab-')}": (name,) for name in SINGLE_FILES
}


@pytest.fixture(scope="module")
def index(shared_data: Path) -> dict[str, dict[str, Any]]:
    """The index of files: size, SHA-256, header facts."""
    entries = json.loads((shared_data / "gguf" / "INDEX.json").read_text())
    return {entry["file"]: entry for entry in entries}


@pytest.fixture(scope="module")
def hub(shared_data: Path) -> Iterator[FaultyHub]:
    def served(repo_id: str, names: tuple[str, ...]) -> DemoRepository:
        files = [
            DemoFile(name.removeprefix("ggml-vocab-"), file_content(shared_data / "gguf" / name)) for name in names
        ]
        return DemoRepository(repo_id=repo_id, files=files)

    with FaultyHub([served(*item) for item in REPOSITORIES.items()]) as hub:
        yield hub


@pytest.fixture(scope="module")
def kernel(hub: FaultyHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel that has downloaded every repository."""
    with Kernel(tmp_path_factory.mktemp("kernel"), hub.url) as kernel:
        queue = "\n".join(f"%gguf queue {repo_id}" for repo_id in REPOSITORIES)
        cell = kernel.run(f"%load_ext gglib_nb\nimport gglib_nb\n{queue}\n%gguf wait")
        assert cell.status == "ok", cell.text
        yield kernel


def arrived(kernel: Kernel, name: str) -> Path:
    """The path of a shared data file after its download."""
    repo_id = next(repo_id for repo_id, names in REPOSITORIES.items() if name in names)
    return kernel.models / repo_id / name.removeprefix("ggml-vocab-")


def read_by_gguf(path: Path) -> dict[str, Any]:
    """Facts of the header as the `gguf` package reads them, under the names of the index."""
    reader = GGUFReader(path)
    architecture = reader.get_field("general.architecture")
    return {
        "version": int(reader.fields["GGUF.version"].parts[-1][0]),
        "kv": len(reader.fields),
        "tensors": len(reader.tensors),
        "arch": architecture and architecture.contents(),
    }


@pytest.mark.parametrize("name", [*SPLIT_PAIR, *SINGLE_FILES])
def test_a_file_is_downloaded_byte_for_byte(kernel: Kernel, index: dict[str, dict[str, Any]], name: str) -> None:
    path = arrived(kernel, name)

    assert path.stat().st_size == index[name]["size"]
    assert sha256_of(path) == index[name]["sha256"]


# The package reads a vocabulary string by string: up to half a minute for one file.
VOCABULARIES = [pytest.param(name, marks=pytest.mark.slow) for name in SINGLE_FILES[1:]]


@pytest.mark.parametrize("name", [*SPLIT_PAIR, SINGLE_FILES[0], *VOCABULARIES])
def test_the_gguf_package_reads_the_expected_header_from_a_downloaded_file(
    kernel: Kernel, index: dict[str, dict[str, Any]], name: str
) -> None:
    facts = read_by_gguf(arrived(kernel, name))

    assert facts == {key: index[name][key] for key in facts}


def test_the_split_pair_is_one_download_with_two_shards(kernel: Kernel) -> None:
    shards = kernel.value(
        "[(item.shard_count, [shard.path_in_repo for shard in item.shards])"
        " for item in gglib_nb.get_manager().snapshot.recent_completed if item.repo_id == 'real/split-pair']"
    )

    assert shards == str([(2, list(SPLIT_PAIR))])


def test_every_download_is_in_the_catalog(kernel: Kernel) -> None:
    listed = kernel.run("%gguf models").text

    assert [repo_id for repo_id in REPOSITORIES if repo_id not in listed] == []


@pytest.mark.parametrize("name", [SPLIT_PAIR[0], "dummy.gguf", "ggml-vocab-qwen2.gguf"])
def test_the_returned_path_can_be_opened_by_a_program(kernel: Kernel, name: str) -> None:
    path = arrived(kernel, name)
    repo_id = path.parent.relative_to(kernel.models)

    kernel.run(f"path = %gguf path {repo_id}")

    assert kernel.value("path") == str(path)


def test_no_partial_file_remains(kernel: Kernel) -> None:
    assert sorted(path.name for path in kernel.models.rglob("*.part*")) == []
