"""Every error crosses the pipe unchanged."""

import json
import pickle

import pytest

from gglib_nb import errors
from gglib_nb.errors import (
    AmbiguousQuantizationError,
    DiskFullError,
    DownloadsFailedError,
    GatedRepoError,
    GglibError,
    IncompleteShardSetError,
    IntegrityError,
    NetworkError,
    QueueFullError,
    RateLimitedError,
    from_wire,
    to_wire,
)

CLASSES = [
    kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, GglibError) and not name.startswith("_")
]
WITH_ATTRIBUTES = [
    DownloadsFailedError("2 downloads failed.", ids=("a/b:Q4_0", "c/d:Q8_0")),
    AmbiguousQuantizationError("Two answer.", ("a-Q4_K_M", "b-Q4_K_M")),
    errors.NoGgufFilesError("None here.", ("a/b-GGUF", "c/b-GGUF")),
    IncompleteShardSetError("One is missing.", (2, 3)),
    QueueFullError("Full.", 10),
    errors.AlreadyQueuedError("There.", "owner/a:Q4_K_M"),
    GatedRepoError("Accept first.", "https://huggingface.co/owner/a"),
    RateLimitedError("Wait.", 12.5),
    RateLimitedError("Wait.", None),
    IntegrityError("Wrong.", "a" * 64, "b" * 64),
    DiskFullError("Full.", 10**12, 5),
]


def through_the_pipe(error):
    return from_wire(json.loads(json.dumps(to_wire(error))))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_keeps_its_class_and_text_across_the_pipe(kind):
    arrived = through_the_pipe(kind("What happened. What to do next."))

    assert type(arrived) is kind
    assert str(arrived) == "What happened. What to do next."


@pytest.mark.parametrize("error", WITH_ATTRIBUTES, ids=lambda error: type(error).__name__)
def test_every_attribute_keeps_its_type_across_the_pipe(error):
    arrived = through_the_pipe(error)

    assert vars(arrived) == vars(error)
    assert {name: type(value) for name, value in vars(arrived).items()} == {
        name: type(value) for name, value in vars(error).items()
    }


def test_every_error_with_attributes_is_tested():
    own = {kind for kind in CLASSES if "__init__" in vars(kind)}

    assert own <= {type(error) for error in WITH_ATTRIBUTES}


@pytest.mark.parametrize("error", WITH_ATTRIBUTES, ids=lambda error: type(error).__name__)
def test_every_error_can_be_pickled(error):
    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_an_error_of_another_version_is_still_an_error():
    arrived = from_wire({"code": "ErrorOfTomorrow", "message": "It broke.", "fields": {"when": 1}})

    assert (type(arrived), str(arrived)) == (GglibError, "It broke.")


def test_notes_on_an_error_are_kept():
    error = NetworkError("The line was cut.")
    error.add_note("seen in a test")

    assert to_wire(error) == {"code": "NetworkError", "message": "The line was cut.", "fields": {}}
    assert str(through_the_pipe(error)) == "The line was cut."


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_name_ends_in_error_and_every_class_has_a_docstring(kind):
    assert kind.__name__.endswith("Error")
    assert kind.__doc__
