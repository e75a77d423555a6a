"""The lines between kernel and engine: every message is decoded unchanged, and garbage raises `ValueError` only."""

import json
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain import reports
from gglib_nb.domain.download import PlannedFile, ShardStatus, StoredFile
from gglib_nb.domain.names import Quantization
from gglib_nb.domain.reports import StopTransfer, TransferFailed
from gglib_nb.domain.values import restored
from gglib_nb.engine import protocol
from gglib_nb.engine.protocol import Command, Configure, ProcessEvent, StartTransfer, decode_with, encode
from gglib_nb.errors import NetworkError, to_wire

FINITE = st.floats(allow_nan=False, allow_infinity=False)  # JSON has no other
SCALARS = st.none() | st.booleans() | st.integers() | FINITE | st.text()
st.register_type_strategy(StoredFile, st.builds(StoredFile, facts=st.dictionaries(st.text(), SCALARS, max_size=3)))

COMMANDS = [
    Configure,
    StartTransfer,
    StopTransfer,
    reports.DiscardPartials,
    protocol.CheckFiles,
    protocol.StopCheck,
]
EVENTS = [
    protocol.Ready,
    reports.Progress,
    reports.TransferFinished,
    TransferFailed,
    reports.TransferStopped,
    protocol.CheckProgress,
    protocol.CheckEnded,
]
MESSAGES = msgspec.json.Decoder(Command | ProcessEvent, dec_hook=restored)


def decode(line):
    return decode_with(MESSAGES, line)


def messages(kind):
    if kind is TransferFailed:
        return st.builds(kind, error=st.text().map(NetworkError))
    if kind is reports.Progress:
        return st.builds(kind, sampled_s=FINITE, notice_s=st.none() | FINITE)
    return st.builds(kind)


@pytest.mark.parametrize("kind", [*COMMANDS, *EVENTS], ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_message_is_one_line_and_is_decoded_unchanged(kind, data):
    message = data.draw(messages(kind))

    line = encode(message)
    decoded = decode(line)

    if kind is TransferFailed:  # errors are equal only if they are the same object
        assert to_wire(decoded.error) == to_wire(message.error)
        decoded = msgspec.structs.replace(decoded, error=message.error)
    assert decoded == message
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1


def test_a_message_is_an_object_with_its_class_in_type():
    assert encode(StopTransfer(7)) == b'{"type":"StopTransfer","attempt":7}\n'


def test_files_are_decoded_as_values_and_not_as_dictionaries():
    start = StartTransfer(1, "o/r", "c" * 40, (PlannedFile("a.gguf", None, None, "/m/a.gguf"),), force=False)
    progress = reports.Progress(1, 2.0, (reports.FileProgress(5, ShardStatus.VERIFYING),), 5)

    assert decode(encode(start)).files[0].size_bytes is None
    assert decode(encode(progress)).files[0].status is ShardStatus.VERIFYING


def test_an_error_is_decoded_unchanged():
    failed = TransferFailed(1, NetworkError("The line was cut."), can_retry=True)

    error = decode(encode(failed)).error

    assert (type(error), str(error)) == (NetworkError, "The line was cut.")


def test_every_message_is_tested():
    assert {*get_args(Command), *get_args(ProcessEvent)} == {*COMMANDS, *EVENTS}


# Garbage


@given(st.binary(max_size=200))
def test_any_bytes_decode_to_a_message_or_raise_value_error(line):
    with pytest.raises(ValueError, match="not a message of the engine's protocol"):
        decode(line)


JSON = st.recursive(SCALARS, lambda children: st.lists(children) | st.dictionaries(st.text(), children), max_leaves=8)
FIELDS = st.sampled_from(["attempt", "files", "targets", "link_folders", "error", "pid", "token", "received_bytes"])


@given(st.sampled_from([kind.__name__ for kind in (*COMMANDS, *EVENTS)]), st.dictionaries(FIELDS, JSON, max_size=6))
def test_any_object_decodes_to_a_message_or_raises_value_error(kind, fields):
    line = json.dumps({"type": kind, **fields}).encode()

    try:
        message = decode(line)
    except ValueError:
        return
    assert type(message).__name__ == kind


@given(messages(StartTransfer), st.data())
def test_a_truncated_line_raises_value_error(message, data):
    line = encode(message)
    end = data.draw(st.integers(0, len(line) - 2))

    with pytest.raises(ValueError, match="not a message"):
        decode(line[:end])


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"null",
        b"7",
        b"[]",
        b'"StopTransfer"',
        b"{}",
        b'{"type":"Unheard"}',
        b'{"type":["StopTransfer"]}',
        b'{"type":"StopTransfer"}',
        b'{"type":"StopTransfer","attempt":1,"more":2}',
        b'{"type":"StartTransfer","attempt":1,"repo_id":"o/r","commit_sha":"c","files":[7],"force":false}',
        b'{"type":"Progress","attempt":1,"sampled_s":1,"files":[{"downloaded_bytes":1,"status":"odd"}],"received_bytes":1}',
        b"\xff\xfe",
        b"9" * 5000,
        b"[" * 100_000,
    ],
    ids=lambda line: repr(line[:30]),
)
def test_garbage_raises_value_error(line):
    with pytest.raises(ValueError, match="not a message of the engine's protocol"):
        decode(line)


# The token


def test_a_repr_never_contains_the_token():
    configure = Configure("https://huggingface.co", "hf_secret", None, 16, (), "gglib-nb")

    assert "hf_secret" not in repr(configure)


def test_an_error_never_quotes_a_broken_line():
    line = encode(Configure("https://huggingface.co", "hf_secret", None, 16, (), "gglib-nb"))

    with pytest.raises(ValueError, match="not a message") as refusal:
        decode(line[:-3])
    assert "hf_secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None


def test_a_quantization_is_encoded_as_text():
    stored = StoredFile("/a", "a", "shard", 1, None, True, 1, False, {}, reused_from=(Quantization("q4_k_s"),))

    back = decode(encode(reports.TransferFinished(1, (stored,))))

    assert back.files[0].reused_from == ("Q4_K_S",)
