"""The memory estimate compared with a real llama.cpp, for every kind of cache; run with `-m slow`, if cyllama is installed."""

import importlib.util

import pytest

from benchmarks.llama_memory import TinyModel, compare, tiny_models

MODELS = {model.architecture: model for model in tiny_models()}


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(("context_tokens", "sequences"), [(5000, 1), (32_768, 4)])
def test_the_estimate_matches_llama_cpps_allocation(model: TinyModel, context_tokens: int, sequences: int) -> None:
    if importlib.util.find_spec("cyllama") is None:
        pytest.skip("cyllama, which ships llama.cpp, is not installed: pip install gglib-nb[reuse]")

    compared = compare(model, context_tokens, sequences)

    assert compared.difference < 0.02, (compared.estimated, compared.allocated)
