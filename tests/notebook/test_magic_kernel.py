"""`%gguf` in a real kernel, with the real manager, in front of a hub on loopback."""

from collections.abc import Iterator

import pytest

from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_files, make_repository
from tests.support.kernel import Kernel, wait_until

MB = 1_000_000
FILES = {"model-Q2_K.gguf": MB, "model-Q4_K_M.gguf": 2 * MB, "mmproj-F16.gguf": MB}
LARGE = {"large-Q4_K_M.gguf": 400 * MB}


@pytest.fixture(scope="module")
def hub() -> Iterator[FaultyHub]:
    with FaultyHub([make_repository("demo/small", FILES), make_repository("demo/large", LARGE)]) as hub:
        hub.set_speed(10 * MB)
        yield hub


@pytest.fixture(scope="module")
def kernel(hub: FaultyHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with Kernel(tmp_path_factory.mktemp("kernel"), hub.url) as kernel:
        kernel.run("%load_ext gglib_nb")
        kernel.run("import gglib_nb")
        yield kernel


def _bytes_sent(hub: FaultyHub) -> int:
    return sum(size for _, size in hub.flow())


def test_queue_reports_the_choice_and_its_reason(hub: FaultyHub, kernel: Kernel) -> None:
    hub.set_speed(MB)  # `queue` waits for the first report, and `wait` must still find an active download
    cell = kernel.run("%gguf queue demo/small --with mmproj\n%gguf wait")
    hub.set_speed(10 * MB)

    first, *milestones = cell.text.splitlines()
    assert first.startswith("Queued demo/small:Q4_K_M (3.0 MB, 2 files). Q4_K_M is the usual choice.")
    assert "demo/small:Q4_K_M finished: 3.0 MB" in milestones[-1]
    assert "SHA-256 verified" in milestones[-1]


def test_a_log_gets_lines_and_no_display(kernel: Kernel) -> None:
    cell = kernel.run("%gguf queue demo/small:Q2_K\n%gguf wait")

    assert {output["type"] for output in cell.outputs} == {"stream"}


def test_path_returns_the_downloaded_file(kernel: Kernel) -> None:
    kernel.run("%gguf queue demo/small:Q2_K\n%gguf wait\np = %gguf path demo/small:Q2_K")

    assert kernel.value("p").endswith("demo/small/model-Q2_K.gguf")


def test_an_interrupted_wait_does_not_affect_the_download(hub: FaultyHub, kernel: Kernel) -> None:
    kernel.run("%gguf queue demo/large")
    cell = kernel.submit("%gguf wait large")
    kernel.wait_for_output(cell)

    kernel.interrupt()
    kernel.wait(cell)

    assert cell.error is not None
    assert [line.partition(": ")[0] for line in cell.error["traceback"]] == ["KeyboardInterrupt"]
    served = _bytes_sent(hub)
    wait_until(lambda: _bytes_sent(hub) > served + MB, 60, "bytes after the interrupt")
    kernel.run("%gguf cancel large --discard")


def test_plan_queues_nothing_and_a_row_can_be_queued(kernel: Kernel) -> None:
    plan = kernel.run("%gguf plan demo/small")

    assert set(plan.outputs[0]["data"]) == {"text/plain", "text/html"}
    assert "★ recommended" in plan.text
    assert "%gguf queue ROW --with mmproj" in plan.text
    assert kernel.value("len(gglib_nb.get_manager().snapshot.items)") == "0"
    assert "demo/small:Q2_K" in kernel.run("%gguf queue 1").text


def test_search_rows_can_be_planned_by_number(kernel: Kernel) -> None:
    found = kernel.run("%gguf search small")

    assert "demo/small" in found.text
    assert "demo/small · 2 variants" in kernel.run("%gguf plan 1").text


def test_models_lists_downloaded_models(kernel: Kernel) -> None:
    kernel.run("%gguf queue demo/small:Q2_K\n%gguf wait")

    assert "demo/small:Q2_K" in kernel.run("%gguf models").text


def test_in_a_log_loading_code_is_shown_and_a_model_deleted_only_if_confirmed(kernel: Kernel) -> None:
    kernel.run("%gguf queue demo/small:Q2_K\n%gguf wait")

    lines = kernel.run("%gguf path demo/small:Q2_K --for ollama")
    asked = kernel.run("%gguf delete demo/small:Q2_K")
    there = kernel.value("gglib_nb.path('demo/small:Q2_K').exists()")
    deleted = kernel.run("%gguf delete demo/small:Q2_K --yes")

    assert "model-Q2_K.gguf\nEND\nollama create small:q2_k -f Modelfile" in lines.text
    assert "Nothing was deleted." in asked.text
    assert there == "True"
    assert deleted.text.startswith("Deleted demo/small:Q2_K: 1 file; ")
    assert "demo/small:Q2_K" not in kernel.run("%gguf models").text


def test_a_damaged_model_is_found_repaired_and_updated_in_a_kernel(hub: FaultyHub, kernel: Kernel) -> None:
    kernel.run("%gguf queue demo/small:Q2_K\n%gguf wait\np = %gguf path demo/small:Q2_K")
    right = kernel.run("%gguf verify demo/small:Q2_K").text
    kernel.run("with open(p, 'r+b') as file:\n    file.seek(500_000)\n    file.write(b'spoilt')")

    wrong = kernel.run("%gguf verify --all").text
    mending = kernel.run("%gguf repair demo/small:Q2_K").text
    mended = kernel.run("%gguf wait\n%gguf verify demo/small:Q2_K").text
    hub.move_branch("demo/small", "main", make_files(FILES | {"model-Q2_K.gguf": 2 * MB}), "Quantize anew")
    news = kernel.run("%gguf updates demo/small:Q2_K").text
    updating = kernel.run("%gguf update demo/small:Q2_K").text
    updated = kernel.run("%gguf wait\n%gguf verify demo/small:Q2_K").text
    hub.move_branch("demo/small", "main", make_files(FILES))

    assert "SHA-256 matches." in right
    assert "has wrong bytes at 0 to 999,999 (1.0 MB)" in wrong
    assert "Repairing demo/small:Q2_K: 1 file damaged or missing, 1.0 MB to download." in mending
    assert "SHA-256 matches." in mended
    assert "its tensors changed" in news
    assert "Quantize anew" in news
    assert updating.startswith("Updating demo/small:Q2_K to ")
    assert "demo/small:Q2_K: 1 file, 2.0 MB, SHA-256 matches." in updated
    assert kernel.value("p == str(gglib_nb.path('demo/small:Q2_K'))") == "True"
    kernel.run("%gguf delete demo/small:Q2_K --yes")


def test_an_interrupted_verification_does_not_change_the_model(kernel: Kernel) -> None:
    kernel.run("%gguf queue demo/small:Q2_K\n%gguf wait\nimport os\nfrom dataclasses import replace")
    kernel.run(
        "catalog = gglib_nb.get_manager().catalog\n"
        "model = catalog.find('demo/small:Q2_K')\n"
        "open('endless.gguf', 'w').close()\n"
        "os.truncate('endless.gguf', 40 * 10**9)\n"
        "slow = replace(model.files[0], target=os.path.abspath('endless.gguf'))\n"
        "catalog.register(replace(model, id=gglib_nb.DownloadId('local/slow'), files=(slow,)))"
    )
    cell = kernel.submit("%gguf verify local/slow")
    kernel.wait_for_output(cell)

    kernel.interrupt()
    kernel.wait(cell)

    assert cell.error is not None
    assert [line.partition(": ")[0] for line in cell.error["traceback"]] == ["KeyboardInterrupt"]
    assert kernel.run("%gguf verify demo/small:Q2_K").text.endswith("SHA-256 matches.\n")
    kernel.run("%gguf forget local/slow\nos.remove('endless.gguf')")


def test_a_folder_is_imported_in_a_kernel(kernel: Kernel) -> None:
    kernel.run("%gguf queue demo/small:Q2_K\n%gguf wait\n%gguf forget demo/small:Q2_K")

    cell = kernel.run("folder = gglib_nb.get_manager().config.models_directory\n%gguf import {folder}")

    assert "demo/small:Q2_K" in cell.text
    assert "Check one with: %gguf verify ID" in cell.text


def test_without_a_verb_gguf_shows_the_panel_with_its_text_form(kernel: Kernel) -> None:
    data = kernel.run("%gguf", has_person=True).outputs[0]["data"]

    assert {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"} <= set(data)


def test_completion_completes_verbs_options_and_variants_without_a_request(hub: FaultyHub, kernel: Kernel) -> None:
    kernel.run("%gguf plan demo/small")
    asked = len(hub.requests)

    assert kernel.completions("%gguf sta") == ["status"]
    assert kernel.completions("%gguf queue --no") == ["--no-db", "--no-start"]
    assert kernel.completions("x = 1\n%gguf queue demo/s") == ["demo/small"]
    assert kernel.completions("%gguf queue demo/small:q4") == ["demo/small:Q4_K_M"]
    kernel.run("%gguf queue demo/small:Q2_K\n%gguf wait")
    asked = len(hub.requests)
    assert kernel.completions("p = %gguf path demo/small:Q2") == ["demo/small:Q2_K"]
    assert kernel.completions("%gguf models --sort par") == ["parameters"]
    assert kernel.completions("%gguf path x --for ol") == ["ollama"]
    assert len(hub.requests) == asked


@pytest.mark.slow
def test_completion_of_other_lines_is_unchanged(kernel: Kernel) -> None:
    assert "gglib_nb" in kernel.completions("gglib_n")


def test_unloading_removes_only_the_magic(kernel: Kernel) -> None:
    cell = kernel.run("%unload_ext gglib_nb\n%gguf status")
    kernel.run("%load_ext gglib_nb")

    assert "not found" in cell.text
    assert kernel.run("%gguf status").status == "ok"


def test_partials_are_listed_and_deleted_by_a_part_of_their_path(hub: FaultyHub, kernel: Kernel) -> None:
    before = _bytes_sent(hub)
    kernel.run("%gguf queue demo/large")
    hub.wait_for(lambda _records: _bytes_sent(hub) > before + 2 * MB)
    listed = kernel.run("%gguf cancel --all\n%gguf partials large")
    deleted = kernel.run("%gguf partials --discard large")

    assert "large-Q4_K_M.gguf" in listed.text
    assert deleted.text.startswith("Deleted 1 ")
    assert "large-Q4_K_M.gguf" not in kernel.run("%gguf partials large").text
