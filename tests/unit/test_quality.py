"""A publisher's statements about its quantizations: read only if no guess is needed."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.quality import Quality, stated_qualities, states_quality
from gglib_nb.domain.variants import variants_of

LABELS = ("Q4_K_M", "Q5_K_M", "Q8_0", "IQ2_XS")
VARIANTS = variants_of([f"model-{label}.gguf" for label in LABELS]).variants


def stated(card: str = "", **files: str) -> dict[str, Quality]:
    texts = {"README.md": card.encode()} if card else {}
    return stated_qualities(texts | {f"{name}.json": text.encode() for name, text in files.items()}, VARIANTS)


def table(head: str, *rows: str) -> str:
    columns = head.count("|") + 1
    return "\n".join(["# A model", "", f"| {head} |", f"|{' --- |' * columns}", *(f"| {row} |" for row in rows), ""])


def test_a_table_with_perplexity_and_divergence_is_read():
    card = table("Quant | Size | PPL | Mean KLD", "Q4_K_M | 4.9 GB | 6.5210 | 0.0123", "Q8_0 | 8.5 GB | 6.40 | 0.001")

    assert stated(card) == {"Q4_K_M": Quality(0.0123, 6.521), "Q8_0": Quality(0.001, 6.4)}


@pytest.mark.parametrize(
    "row",
    [
        "`Q4_K_M` | 6.5",
        "**Q4_K_M** | **6.5**",
        "[Q4_K_M](https://example.com/a.gguf) | 6.5 ± 0.02",
        "[model-Q4_K_M.gguf](https://example.com/a.gguf) | 6.5 +/- 0.02",
        "q4_k_m | 6.5",
        "model-Q4_K_M | 6.5",
    ],
)
@pytest.mark.parametrize("head", ["Quant | Perplexity", "Type | PPL ↓", "Name | **Mean PPL** (lower is better)"])
def test_markup_and_file_names_are_parsed(head: str, row: str) -> None:
    assert stated(table(head, row)) == {"Q4_K_M": Quality(None, 6.5)}


@pytest.mark.parametrize(
    "card",
    [
        table("Quant | Max KLD | PPL(Q)/PPL(base) | KLD 99.9%", "Q4_K_M | 2.1 | 1.02 | 0.3"),  # other measures
        table("Quant | PPL | PPL", "Q4_K_M | 6.5 | 6.6"),  # two columns of one name
        table("Quant | PPL", "Q4_K_M or Q5_K_M | 6.5"),  # not a variant's name
        table("Quant | Base | PPL", "Q4_K_M | Q8_0 | 6.5"),  # two variants' names
        table("Quant | PPL", "Q4_K_M | 6.5", "Q4_K_M | 6.7"),  # two values
        table("Quant | PPL", "Q4_K_M | ~6.5"),
        table("Quant | PPL", "Q4_K_M | 6,5"),
        table("Quant | PPL", "Q4_K_M | nan"),
        table("Quant | PPL", "Q4_K_M | 0.2"),  # a perplexity is never below 1
        table("Quant | KLD", "Q4_K_M | -0.1"),
        "Q4_K_M | PPL\n6.5 | 7\n",  # not a table without its line of dashes
        f"```\n{table('Quant | PPL', 'Q4_K_M | 6.5')}\n```\n",
        "Q4_K_M has a PPL of 6.5",
    ],
)
def test_values_that_require_a_guess_are_not_read(card: str) -> None:
    assert stated(card) == {}


@pytest.mark.parametrize(
    "content",
    [
        {"Q4_K_M": {"ppl": 6.5, "kld": 0.01, "size": 3}},
        [{"quant": "Q4_K_M", "perplexity": 6.5, "KL divergence": 0.01}],
        [{"file": "model-Q4_K_M.gguf", "PPL": "6.5 ± 0.1", "mean KLD": "0.01"}],
    ],
)
def test_json_files_next_to_the_model_are_read(content: object) -> None:
    assert stated(kld=json.dumps(content)) == {"Q4_K_M": Quality(0.01, 6.5)}


def test_a_value_stated_differently_in_two_places_is_ignored() -> None:
    card = table("Quant | PPL | KLD", "Q4_K_M | 6.5 | 0.01")

    assert stated(card, ppl='{"Q4_K_M": {"ppl": 6.6, "kld": 0.01}}') == {"Q4_K_M": Quality(0.01, None)}


@pytest.mark.parametrize("text", ["", "7", "[1, null]", '{"Q4_K_M": 3}', "[" * 100_000, '{"Q4_K_M": {"ppl": 1e999}}'])
def test_json_of_another_form_is_ignored(text: str) -> None:
    assert stated(ppl=text) == {}


def test_an_ambiguous_label_matches_no_variant() -> None:
    variants = variants_of(["a/one-Q4_K_M.gguf", "b/two-Q4_K_M.gguf"]).variants
    card = table("Quant | PPL", "Q4_K_M | 6.5")

    assert stated_qualities({"README.md": card.encode()}, variants) == {}


@pytest.mark.parametrize(
    ("path", "is_read"),
    [
        ("README.md", True),
        ("kld_results.json", True),
        ("a/ppl.json", True),
        ("config.json", False),
        ("a/README.md", False),
    ],
)
def test_only_files_with_known_names_are_read(path: str, is_read: bool) -> None:
    assert states_quality(path) is is_read


@given(
    st.dictionaries(st.sampled_from(LABELS), st.tuples(st.floats(1, 1e5), st.floats(0, 50)), min_size=1),
    st.permutations(["Quant", "PPL", "KLD", "Size"]),
)
def test_every_written_table_is_read_back(values: dict[str, tuple[float, float]], columns: list[str]) -> None:
    rows = [
        " | ".join({"Quant": label, "PPL": f"{ppl:.4f}", "KLD": f"{kld:.6f}", "Size": "1 GB"}[name] for name in columns)
        for label, (ppl, kld) in values.items()
    ]

    found = stated(table(" | ".join(columns), *rows))

    assert found == {label: Quality(float(f"{kld:.6f}"), float(f"{ppl:.4f}")) for label, (ppl, kld) in values.items()}


@given(st.text(alphabet='|-:` \nQ4_KM80PLD.5[](){}"*', max_size=400))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for quality in stated(text or " ", kld=text).values():
        assert quality.perplexity is None or quality.perplexity >= 1
        assert quality.kl_divergence is None or quality.kl_divergence >= 0


@pytest.mark.parametrize(
    "card",
    [
        "|" * 1_000_000,
        "PPL|" * 200_000 + "\n" + "-|" * 200_000 + "\n" + "|\n" * 100_000,
        "[" * 500_000 + "](" * 200_000,
        table("Quant | PPL", *["Q4_K_M | 6.5"] * 50_000),
        "| a\n" * 300_000,
    ],
)
def test_a_hostile_card_of_a_megabyte_is_parsed_quickly(card: str) -> None:
    begin_s = time.process_time()

    stated(card)

    assert time.process_time() - begin_s < 3
