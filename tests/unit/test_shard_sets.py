"""Whether stored files are the shards of one model, by their headers."""

import pytest

from gglib_nb.domain.download import shards_of_one_set
from gglib_nb.errors import IncompleteShardSetError
from tests.support.catalog_models import stored


def test_a_count_that_no_model_has_is_refused_at_once_in_a_short_sentence() -> None:
    shard = stored("/models/m.gguf", facts={"architecture": "llama", "split_count": 2**63, "split_no": 0})

    with pytest.raises(IncompleteShardSetError, match=r"^Shards 2, 3, .* more of \d+ are missing") as refused:
        shards_of_one_set([shard])
    assert len(str(refused.value)) < 300
