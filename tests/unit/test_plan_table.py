"""A repository's variants, as a table in text and in HTML."""

import re
from dataclasses import replace

import pytest

from gglib_nb.domain.companions import Companion
from gglib_nb.domain.fit import Gpu, MachineMemory, Placement
from gglib_nb.domain.library import SEE_DELETABLE
from gglib_nb.domain.memory import MemoryEstimate
from gglib_nb.notebook.plan_table import offer
from tests.support.plan_values import (
    GB,
    GIB,
    RAM_BYTES,
    VRAM_BYTES,
    a_plan,
    a_plan_of_25,
    a_variant,
    placed,
    plan_html,
    plan_text,
)


def rows_of(text):
    return [line for line in text.splitlines() if re.match(r"[* ] +\d+ ", line)]


def cells_of(line):
    return re.split(r"\s{2,}", line[2:].strip())


def test_a_row_shows_size_bits_memory_fit_and_remaining_space():
    row = rows_of(plan_text(a_plan(a_variant("Q4_K_M", 5.0)), width=200))[0]

    assert cells_of(row) == ["1", "Q4_K_M", "5.0 GB", "4.9", "6.2 GiB", "GPU", "55.0 GB", "-ngl 99"]


def test_a_row_shows_how_much_can_be_copied_from_local_files():
    plan = a_plan(a_variant("Q4_K_M", 5.0, reusable_bytes=4_149_000_000), a_variant("Q8_0", 8.0, reusable_bytes=0))

    first, second = rows_of(plan_text(plan))
    assert "up to 82 % on this disk" in first
    assert "is here" not in second


def test_a_partial_download_shows_the_remaining_bytes_without_a_guess():
    variant = a_variant("Q4_K_M", 5.0, present_bytes=1_000_000_000, reusable_bytes=4_000_000_000)

    assert "20 %, 4.0 GB left" in plan_text(a_plan(variant))


def test_the_first_lines_describe_the_model_the_memory_and_the_disk():
    plan = a_plan(a_variant(is_recommended=True, why="It is."), is_private=True, revision="v1", queued_bytes=4 * GB)

    assert plan_text(plan).splitlines()[:2] == [
        "owner/model-GGUF@v1 · 1 variant · private",
        "This machine: 12.0 GiB GPU · 32.0 GiB RAM · 60.0 GB free on the disk, 56.0 GB after the queue",
    ]


def test_a_queue_that_does_not_fit_the_disk_is_reported_above_the_table():
    assert "60.0 GB free on the disk, 4.0 GB short after the queue" in plan_text(
        a_plan(a_variant(), queued_bytes=64 * GB)
    )


@pytest.mark.parametrize(
    ("variant_fields", "plan_fields", "said"),
    [
        ({"free_bytes_after": -GB}, {}, f"The disk lacks 1.0 GB for it. {SEE_DELETABLE}"),
        (
            {},
            {"storage_limit_bytes": 9 * GB, "storage_left_bytes": GB},
            f"It would exceed the storage limit. {SEE_DELETABLE}",
        ),
    ],
)
def test_a_download_without_space_is_not_suggested(variant_fields, plan_fields, said):
    usual = a_variant(is_recommended=True, why="It is.", **variant_fields)

    text = plan_text(a_plan(usual, **plan_fields))

    assert said in text
    assert "Download it with" not in text


def test_a_queued_variant_is_not_over_the_limit_that_counts_it_already():
    queued = a_variant(size_gb=6, is_queued=True)

    assert "over the storage limit" not in plan_text(
        a_plan(queued, storage_limit_bytes=10 * GB, storage_left_bytes=4 * GB)
    )


def test_an_unknown_disk_is_not_mentioned():
    assert "on the disk" not in plan_text(a_plan(a_variant(), free_bytes=None))


def test_the_recommended_row_is_marked_and_explained_above_the_table():
    plan = a_plan(a_variant("Q2_K", 3), a_variant("Q4_K_M", 5, is_recommended=True, why="Q4_K_M is the usual choice."))

    text = plan_text(plan)

    assert [row[0] for row in rows_of(text)] == [" ", "*"]
    assert "★ Q4_K_M is the usual choice. 5.0 GB (fits: GPU). Download it with: %gguf queue 2" in text.splitlines()[2]
    assert plan_html(plan).count("★ recommended") == 1


def test_if_the_rule_chooses_no_variant_the_user_must_choose():
    text = plan_text(a_plan(a_variant("F16"), a_variant("F32"), undecided="owner/model-GGUF has 2 variants ..."))

    assert "No row is recommended. Choose one: %gguf queue ROW" in text


def test_the_bar_shows_its_share_of_the_largest_memory_in_the_colour_of_the_fit():
    [cell] = re.findall(r"<td[^>]*linear-gradient[^>]*>", plan_html(a_plan(a_variant("Q8_0", 15.57))))

    assert "* 0.50)" in cell
    assert "#1976d2" in cell


@pytest.mark.parametrize(
    ("size_gb", "fits"),
    [(5, "GPU"), (16, "GPU, 23 of 32 layers"), (54, "too large")],
)
def test_the_fit_is_the_best_place_it_fits_in(size_gb, fits):
    assert fits in cells_of(rows_of(plan_text(a_plan(a_variant("Q8_0", size_gb))))[0])


def test_a_rough_estimate_is_marked():
    rough = a_variant(memory=MemoryEstimate(5 * GIB, None, GIB, is_rough=True))

    text = plan_text(a_plan(rough))

    assert "~6.0 GiB" in text
    assert "~: rough estimate." in text


def test_the_limits_of_an_estimate_are_stated_once():
    memory = MemoryEstimate(5 * GIB, None, GIB, is_rough=True, notes=("The architecture novel may keep more state.",))

    text = plan_text(a_plan(a_variant("Q4_0", memory=memory), a_variant("Q8_0", memory=memory)))

    assert text.count("~: rough estimate. The architecture novel may keep more state.") == 1


def test_without_an_estimate_its_column_is_replaced_by_a_reason():
    unknown = a_variant(memory=None, placement=Placement("unknown"))

    text = plan_text(a_plan(unknown, context_tokens=None))

    assert " Memory " not in text
    assert "Fits" not in text
    assert text.splitlines()[-1] == "Memory is unknown: the model's GGUF header could not be read."


@pytest.mark.parametrize(("present", "says"), [(5 * GB, "✓ all of it"), (GB, "20 %, 4.0 GB left"), (0, "Q4_K_M")])
def test_local_variants_are_marked(present, says):
    assert says in rows_of(plan_text(a_plan(a_variant("Q4_K_M", 5, present_bytes=present))))[0]


def test_a_disk_that_is_too_small_shows_the_missing_space():
    assert "2.0 GB short" in plan_text(a_plan(a_variant(free_bytes_after=-2 * GB)))


def test_an_incomplete_set_is_reported():
    assert "1 of 3 files missing" in plan_text(a_plan(a_variant(shard_count=3, missing=(2,))))


def test_a_gated_repository_names_the_page_and_the_login():
    refusal = (
        "owner/model-GGUF is gated: accept its terms on https://hub/owner/model, then log in with `hf auth login`."
    )
    unknown = a_variant(memory=None, placement=Placement("unknown"))
    best = replace(unknown, is_recommended=True, why="It is the usual choice.")
    plan = a_plan(best, gate="manual", has_access=False, context_tokens=None, refusal=refusal)

    text = plan_text(plan)

    assert text.splitlines()[2] == f"{refusal} Until then, nothing can be downloaded."
    assert "https://hub/owner/model" in plan_html(plan)
    assert "could not be read" not in text
    assert "Download it" not in text


def test_the_companion_is_offered_once():
    offered = Companion("mmproj-F16.gguf", "mmproj", GB)
    other = Companion("x.imatrix", "imatrix", GB)
    variants = [a_variant(label, companions=(offered,)) for label in ("Q4_0", "Q8_0")]

    text = plan_text(a_plan(*variants, companions=(offered, other)))

    assert text.count("With its mmproj (mmproj-F16.gguf, 1.0 GB): %gguf queue ROW --with mmproj") == 1
    assert "imatrix" not in text


def test_untrusted_html_is_shown_as_text():
    page = plan_html(a_plan(a_variant(label="x", key="<img src=x onerror=alert(1)>", bits_per_weight=None)))

    assert "<img" not in page
    assert "&lt;img" in page


def test_a_repository_of_25_variants_is_a_table_of_25_rows_and_seven_lines():
    text = plan_text(a_plan_of_25())

    assert len(rows_of(text)) == 25
    assert len(text.splitlines()) == 5 + 1 + 25 + 2
    assert max(map(len, text.splitlines())) <= 130


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"is_queued": True}, "It is in the queue."), ({"present_bytes": 5 * GB}, "You already have it.")],
)
def test_a_complete_variant_is_not_recommended_for_download(fields, says):
    text = plan_text(a_plan(a_variant("Q4_K_M", 5, is_recommended=True, why="It is.", **fields)))

    assert says in text.splitlines()[2]
    assert "Download it" not in text


def test_the_best_variant_that_fits_entirely_is_shown_with_the_preferred_one():
    usual = a_variant("Q4_K_M", 5, is_recommended=True, why="Q4_K_M is the usual choice.")
    plan = a_plan(usual, a_variant("Q6_K", 6.6), a_variant("Q8_0", 16), a_variant("F16", 30))

    said = "Q6_K (6.6 GB) fits your 12.0 GiB of GPU memory as well. Download it with: %gguf queue 2"
    assert said in plan_text(plan).splitlines()


def test_a_smaller_variant_is_shown_if_the_preferred_one_does_not_fit_entirely():
    usual = a_variant("Q4_K_M", 16, is_recommended=True, why="Q4_K_M is the usual choice.")
    plan = a_plan(a_variant("Q2_K", 9), usual)

    said = "Q2_K (9.0 GB) fits your 12.0 GiB of GPU memory entirely. Download it with: %gguf queue 1"
    assert said in plan_text(plan).splitlines()


@pytest.mark.parametrize(
    ("of_variant", "of_plan", "says"),
    [
        ({"free_bytes_after": -2 * GB}, {}, f" The disk lacks 2.0 GB for it. {SEE_DELETABLE}"),
        ({"is_queued": True}, {}, " It is in the queue."),
        ({}, {"has_access": False}, ""),
    ],
)
def test_another_variant_that_fits_is_suggested_only_if_it_can_be_downloaded(of_variant, of_plan, says):
    usual = a_variant("Q4_K_M", 5, is_recommended=True, why="Q4_K_M is the usual choice.")
    plan = a_plan(usual, a_variant("Q6_K", 6.6, **of_variant), **of_plan)

    assert f"Q6_K (6.6 GB) fits your 12.0 GiB of GPU memory as well.{says}" in plan_text(plan).splitlines()


def test_a_build_for_other_machines_is_marked_and_not_the_best_that_fits():
    usual = a_variant("Q4_K_M", 5, is_recommended=True, why="Q4_K_M is the usual choice.")
    plan = a_plan(usual, a_variant("Q6_K", 6.6, is_big_endian=True))

    assert "as well" not in plan_text(plan)
    assert "for big-endian machines" in rows_of(plan_text(plan))[1]


def test_the_command_ends_its_line_if_it_needs_more_memory_than_is_free():
    placement = replace(placed(5 * GB, RAM_BYTES, VRAM_BYTES), fits_now=False)
    lines = plan_text(a_plan(a_variant(is_recommended=True, why="It is.", placement=placement))).splitlines()

    command = next(at for at, line in enumerate(lines) if line.startswith("Run it with"))
    assert lines[command].endswith("-np 1")
    assert lines[command + 1] == "That needs more memory than is free now."


def test_a_variant_that_fits_ram_only_with_less_context_does_not_fit_as_well():
    short, whole = (Placement("ram", layer_count=32, context_tokens=tokens) for tokens in (4096, 8192))
    usual = a_variant("Q4_K_M", 14, is_recommended=True, why="It is.", placement=short)
    plan = a_plan(a_variant("Q3_K_M", 13, placement=whole), usual, machine=MachineMemory(16 * GIB))

    assert "Q3_K_M (13.0 GB) fits your RAM entirely. Download it with: %gguf queue 1" in plan_text(plan).splitlines()


def test_beside_a_recommended_variant_that_is_too_large_the_largest_that_can_be_run_is_named():
    usual, small = a_variant("Q4_K_M", 54, is_recommended=True, why="It is."), a_variant("Q2_K", 16)

    lines = plan_text(a_plan(small, usual)).splitlines()

    assert "Q2_K (16.0 GB) fits: GPU, 23 of 32 layers. Download it with: %gguf queue 1" in lines


def test_the_command_that_runs_the_recommended_variant_is_shown():
    usual = a_variant("Q4_K_M", 16, is_recommended=True, why="Q4_K_M is the usual choice.")

    assert "Run it with: llama-server -m FILE -ngl 23 -c 8192 -np 1" in plan_text(a_plan(usual)).splitlines()


@pytest.mark.parametrize(
    ("placement", "says"),
    [
        (Placement("gpu", 32, 32, longest_gpu_context=49_152, has_gpu=True), "GPU, up to 49k"),
        (Placement("gpu", 32, 32, 0, 32_768, longest_gpu_context=8192, has_gpu=True), "GPU"),
        (Placement("gpu_reduced", 32, 32, 0, 8192, "q8_0", has_gpu=True), "GPU, q8_0 cache"),
        (Placement("gpu_reduced", 32, 32, 0, 6144, has_gpu=True), "GPU, 6k context"),
        (Placement("gpu_partly", 31, 48, 0, 8192, has_gpu=True), "GPU, 31 of 48 layers"),
        (Placement("gpu_partly", 48, 48, 33, 8192, has_gpu=True), "GPU, experts of 33 layers in RAM"),
        (Placement("gpu_partly", 48, 48, 1, 8192, has_gpu=True), "GPU, experts of 1 layer in RAM"),
        (Placement("gpu_partly", 31, 48, 0, 6144, has_gpu=True), "GPU, 31 of 48 layers, 6k context"),
        (Placement("ram", 0, 32, 0, 8192), "RAM"),
        (Placement("too_large", 0, 32, 0, 8192), "too large"),
    ],
)
def test_each_class_of_fit_has_its_text(placement, says):
    assert says in cells_of(rows_of(plan_text(a_plan(a_variant(placement=placement))))[0])


def test_a_projector_that_changes_the_class_is_reported():
    seeing = Placement("gpu_partly", 30, 32, 0, 8192, has_gpu=True)

    assert "with mmproj: GPU, 30 of 32 layers" in plan_text(a_plan(a_variant(placement_with_projector=seeing)))


def test_the_first_lines_show_all_gpus_and_free_memory():
    machine = MachineMemory(64 * GIB, (Gpu("RTX 3090", 24 * GIB, 23 * GIB),) * 2, 50 * GIB)

    assert (
        plan_text(a_plan(a_variant(), machine=machine))
        .splitlines()[1]
        .startswith("This machine: 48.0 GiB on 2 GPUs (46.0 GiB free) · 64.0 GiB RAM (50.0 GiB free) · ")
    )


def test_the_panel_rows_mark_the_best_fit_and_show_how_to_run_a_larger_variant():
    usual = a_variant("Q4_K_M", 5, is_recommended=True, why="It is.")
    rows = offer(a_plan(usual, a_variant("Q6_K", 6.6), a_variant("Q8_0", 16))).rows

    said = [[fact.text for fact in row.lines] for row in rows]
    assert ("recommended" in said[0], "best that fits" in said[1], "best that fits" in said[2]) == (True, True, False)
    assert "llama-server -ngl 23" in rows[2].note
    assert "llama-server" not in rows[0].note


def test_variants_with_one_label_in_two_folders_have_different_titles():
    names = {"~1": "8B/m-Q4_K_M", "~2": "70B/m-Q4_K_M"}
    alike = [a_variant(key, label="Q4_K_M", name=name) for key, name in names.items()]

    assert [row.title for row in offer(a_plan(*alike)).rows] == ["8B/m-Q4_K_M", "70B/m-Q4_K_M"]
    assert [line for line in plan_text(a_plan(*alike)).splitlines() if "70B/m-Q4_K_M" in line]


def test_the_panel_says_what_access_lacks():
    refusal = "a/b is gated: your access request is waiting for its authors; see its state on https://hub/a/b."

    assert offer(a_plan(a_variant("Q4_K_M", 5), has_access=False, refusal=refusal)).warning == refusal
    assert offer(a_plan(a_variant("Q4_K_M", 5))).warning == ""


def test_the_panel_has_the_remarks_of_the_table():
    queued, incomplete = a_variant("Q3_K_M", 4, is_queued=True), a_variant("Q4_K_M", 5, shard_count=3, missing=(2,))
    plan = a_plan(queued, incomplete, storage_left_bytes=GB)

    first, second = ([fact.text for fact in row.lines] for row in offer(plan).rows)

    assert "in the queue" in first
    assert all(text in second for text in ("1 of 3 files missing", "over the storage limit"))
    assert "1 of 3 files missing, over the storage limit" in plan_text(plan)
    assert rows_of(plan_text(plan))[0].endswith("in the queue")


def test_a_variant_that_was_requested_is_not_called_recommended():
    (row,) = offer(a_plan(a_variant("Q2_K", 3, is_recommended=True, why="Requested: Q2_K."))).rows

    assert "recommended" not in [fact.text for fact in row.lines]
