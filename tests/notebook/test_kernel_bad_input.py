"""Bad input of every kind: one clear line that says what to do next, and an unchanged queue."""

from collections.abc import Iterator

import pytest

from gglib_nb.demo import GRANTED_TOKEN, DemoRepository
from tests.support.faulty_hub import FaultyHub
from tests.support.kernel import Cell, Kernel
from tests.support.models import MB, one_model


@pytest.fixture(scope="module")
def hub() -> Iterator[FaultyHub]:
    gated = one_model("demo/gated", 10_000)
    gated.gated = "manual"
    empty = DemoRepository(repo_id="demo/empty", files=[])
    with FaultyHub([one_model("demo/model", 500 * MB), one_model("demo/other", 500 * MB), gated, empty]) as hub:
        hub.set_speed(1 * MB)
        yield hub


@pytest.fixture(scope="module")
def kernel(hub: FaultyHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel for the whole list, with one active download that never ends."""
    with Kernel(tmp_path_factory.mktemp("kernel"), hub.url) as kernel:
        kernel.run("%load_ext gglib_nb")
        assert kernel.run("%gguf queue demo/model").status == "ok"
        yield kernel


QUEUE = "[(str(item.id), item.position) for item in gglib_nb.get_manager().snapshot.items]"


def one_line_of(cell: Cell) -> str:
    """The one line of the error that the user reads, without colours."""
    lines = [line for line in cell.text.splitlines() if line.strip()]
    assert len(lines) == 1, cell.text
    if cell.error is not None:
        assert len([line for line in cell.error["traceback"] if line.strip()]) == 1, cell.error["traceback"]
    return lines[0]


@pytest.mark.parametrize(
    ("line", "says", "names_the_way_out"),
    [
        pytest.param("queue demo/nowhere", "demo/nowhere", "check", id="unknown repository"),
        pytest.param("queue demo/gated", "gated", "/demo/gated", id="gated repository"),
        pytest.param("queue demo/empty", "no gguf file", "search", id="repository without GGUF"),
        pytest.param("queue demo/model:Q9_9", "Q9_9", "Q4_K_M", id="unknown quantization"),
        pytest.param("queue demo/model@v9", "v9", "revision", id="unknown revision"),
        pytest.param("queue nonsense", "nonsense", "owner/name", id="not a repository's id"),
        pytest.param("cancel demo/unknown", "demo/unknown", "status", id="cancel of an unknown id"),
        pytest.param("move demo/unknown 1", "demo/unknown", "status", id="move of an unknown id"),
        pytest.param("retry demo/unknown", "demo/unknown", "status", id="retry of an unknown id"),
        pytest.param("path demo/unknown", "demo/unknown", "%gguf queue", id="path of an unknown model"),
        pytest.param("remove demo/model", "demo/model", "cancel", id="remove of an active download"),
        pytest.param("fly", "fly", "queue", id="a bad verb"),
        pytest.param("queue", "queue", "repo", id="queue without a repository"),
        pytest.param("limit none", "limit", "number", id="a limit that is no number"),
        pytest.param("limit 0", "limit", "1", id="a limit that cannot work"),
    ],
)
def test_bad_input_gives_one_line_and_leaves_the_queue_unchanged(
    kernel: Kernel, line: str, says: str, names_the_way_out: str
) -> None:
    kernel.run("import gglib_nb")
    before = kernel.value(QUEUE)

    cell = kernel.run(f"%gguf {line}")

    assert cell.status == "error"
    message = one_line_of(cell).lower()
    assert says.lower() in message
    assert names_the_way_out.lower() in message
    assert kernel.value(QUEUE) == before


@pytest.mark.slow
def test_a_full_queue_refuses_with_its_limit_and_does_not_change(hub: FaultyHub, kernel: Kernel) -> None:
    hub.add_repository(one_model("demo/one-too-many", MB))
    kernel.run("import gglib_nb\n%gguf limit 1\n%gguf queue demo/other")
    before = kernel.value(QUEUE)

    cell = kernel.run("%gguf queue demo/one-too-many")

    assert cell.status == "error"
    message = one_line_of(cell)
    assert "full" in message
    assert "1" in message
    assert "limit" in message
    assert kernel.value(QUEUE) == before


@pytest.mark.slow
def test_a_wrong_token_is_reported_and_never_shown(hub: FaultyHub, tmp_path_factory: pytest.TempPathFactory) -> None:
    token = "hf_thisTokenIsNotKnownToAnybody"
    with Kernel(tmp_path_factory.mktemp("kernel"), hub.url, {"HF_TOKEN": token}) as kernel:
        kernel.run("%load_ext gglib_nb\nimport gglib_nb")

        cell = kernel.run("%gguf queue demo/gated")
        queue = kernel.value(QUEUE)

    assert cell.status == "error"
    message = one_line_of(cell)
    assert "token" in message.lower()
    assert "hf auth login" in message or "HF_TOKEN" in message
    assert token not in str(cell.outputs)
    assert queue == "[]"


@pytest.mark.slow
def test_a_granted_token_opens_a_gated_repository(hub: FaultyHub, tmp_path_factory: pytest.TempPathFactory) -> None:
    with Kernel(tmp_path_factory.mktemp("kernel"), hub.url, {"HF_TOKEN": GRANTED_TOKEN}) as kernel:
        kernel.run("%load_ext gglib_nb")

        cell = kernel.run("%gguf queue demo/gated\n%gguf wait")

        assert cell.status == "ok", cell.text
