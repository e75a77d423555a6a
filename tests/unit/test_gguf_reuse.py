"""Which tensors are copied from local files: candidates, samples, comparisons, copies, and always the right bytes."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gglib_nb.domain.gguf import Tensor, TensorTable, read_tensors
from gglib_nb.domain.gguf_reuse import (
    Copy,
    ReuseLimits,
    Sampling,
    choose_sources,
    find_candidates,
    gain_bytes,
    is_same_model,
    plan_copies,
    plan_sampling,
)
from tests.support.gguf_files import F32, Held, gguf_bytes, noise, related_files

MB = 1_000_000
USUAL = ReuseLimits()


def table_of(content: bytes) -> TensorTable:
    return read_tensors(lambda offset, length: content[offset : offset + length], len(content))


def tensors(*spans: int, start: int = 1_000, names: str = "abcdefghij") -> list[Tensor]:
    """Adjacent tensors."""
    made, offset = [], start
    for name, span in zip(names, spans, strict=False):
        made.append(Tensor(name, 12, (span,), offset, span))
        offset += span
    return made


def sampled(candidates, size_bytes: int, limits: ReuseLimits = USUAL) -> Sampling:
    sampling = plan_sampling(candidates, size_bytes, "seed", limits)
    assert sampling is not None
    return sampling


def sample_bytes(sampling: Sampling) -> int:
    return sum(end - start for start, end in sampling.ranges)


def test_a_candidate_has_the_same_name_type_and_shape() -> None:
    wanted = [Tensor(name, 12, (64,), 1_000 + 64 * index, 64) for index, name in enumerate("abcd")]
    donor = [
        Tensor("a", 12, (64,), 5_000, 64),
        Tensor("b", 14, (64,), 6_000, 64),
        Tensor("c", 12, (32, 2), 7_000, 64),
        Tensor("x", 12, (64,), 8_000, 64),
    ]

    (candidate,) = find_candidates(wanted, [donor])

    assert (candidate.tensor.name, candidate.sources[0].source_offset) == ("a", 5_000)
    assert gain_bytes([candidate]) == 64


def test_the_donor_with_the_most_tensors_comes_first() -> None:
    wanted = tensors(100, 100, 100)

    found = find_candidates(wanted, [tensors(100), tensors(100, 100, 100)])

    assert [[source.donor for source in one.sources] for one in found] == [[1, 0], [1], [1]]


def test_less_than_64_megabytes_of_savings_are_not_sampled() -> None:
    for span, is_worth_it in ((63 * MB, False), (64 * MB, True)):
        candidates = find_candidates(tensors(span), [tensors(span, start=2_000)])
        assert (plan_sampling(candidates, 70 * MB, "seed") is not None) is is_worth_it


@pytest.mark.parametrize(("size_bytes", "most"), [(200 * MB, 1 * MB), (20_000 * MB, 8 * MB)])
def test_samples_cost_a_two_hundredth_of_the_file_and_never_more_than_8_megabytes(size_bytes, most) -> None:
    spans = [size_bytes // 400, 10_000] * 390
    wanted = [Tensor(f"t{index}", 12, (one,), one_at, one) for index, (one, one_at) in enumerate(_at(spans))]
    sampling = sampled(find_candidates(wanted, [wanted]), size_bytes)

    assert len(sampling.candidates) == len(wanted)
    assert 0 < sample_bytes(sampling) <= most
    assert len(sampling.ranges) <= 1024


def _at(spans: Sequence[int]):
    offset = 5_000
    for span in spans:
        yield span, offset
        offset += span


def test_first_and_last_block_of_each_tensor_and_some_between_are_sampled() -> None:
    wanted = tensors(100 * MB, 90 * MB)
    sampling = sampled(find_candidates(wanted, [wanted]), 200 * MB)

    starts = [start for start, _ in sampling.ranges]
    assert sampling.ranges[0] == (1_000, 1_000 + 4_096)
    assert sampling.ranges[-1][1] == wanted[-1].end_bytes
    assert (wanted[0].end_bytes - 4_096, wanted[0].end_bytes + 4_096) in sampling.ranges  # neighbours: one request
    assert len(starts) == 3 + 2 * 3


def test_adjacent_small_tensors_are_one_request() -> None:
    wanted = tensors(100 * MB, *[10_000] * 8, 90 * MB)
    sampling = sampled(find_candidates(wanted, [wanted]), 200 * MB)

    small = [one for one in sampling.ranges if wanted[1].offset_bytes <= one[0] < wanted[9].offset_bytes]
    assert len(small) == 0  # all of it is in the one that starts at the end of the first
    assert len(sampling.ranges) == 3 + 2 * 3


def test_with_too_many_tensors_the_smallest_are_not_sampled() -> None:
    spans = [1 * MB] * 70 + [100] * 5_000
    wanted = [Tensor(f"t{index}", 12, (one,), at * 2, one) for index, (one, at) in enumerate(_at(spans))]
    limits = ReuseLimits(most_requests=400)
    sampling = sampled(find_candidates(wanted, [wanted]), 500 * MB, limits)

    assert {f"t{index}" for index in range(70)} <= {one.tensor.name for one in sampling.candidates}
    assert len(sampling.ranges) <= 400


def test_the_sampled_bytes_depend_on_the_seed() -> None:
    wanted = tensors(100 * MB)
    candidates = find_candidates(wanted, [wanted])

    one, again, other = (plan_sampling(candidates, 200 * MB, seed) for seed in ("one", "one", "other"))

    assert one == again != other


def test_the_first_samples_cover_the_largest_tensors_and_are_part_of_all_samples() -> None:
    wanted = tensors(1 * MB, 30 * MB, 40 * MB, 2_000)
    sampling = sampled(find_candidates(wanted, [wanted]), 1_000 * MB)

    assert set(sampling.first) <= set(sampling.ranges)
    assert any(wanted[2].offset_bytes < start < wanted[2].end_bytes for start, _ in sampling.first)


def test_a_tensor_is_copied_from_the_first_donor_that_matches_every_sample() -> None:
    wanted = tensors(100, 100, 100)
    candidates = find_candidates(wanted, [wanted, tensors(100, 100, 100, start=5_000)])
    ranges = [(1_000, 1_010), (1_090, 1_110), (1_190, 1_200)]

    chosen = choose_sources(candidates, ranges, lambda probe: probe.donor == 1 or probe.target_offset >= 1_100)

    assert [(copy.target_offset, copy.donor) for copy in chosen] == [(1_000, 1), (1_100, 0)]


def test_tensors_adjacent_in_both_files_are_one_run() -> None:
    wanted, donor = tensors(100, 100, 100), tensors(100, 100, 50, 100, start=7_000, names="abxc")
    chosen = choose_sources(find_candidates(wanted, [donor]), [(0, 2_000)], lambda _: True)

    assert plan_copies(chosen) == (Copy(0, 7_000, 1_000, 200), Copy(0, 7_250, 1_200, 100))


def test_a_file_of_another_repository_is_matched_by_architecture_names_and_shapes() -> None:
    held = [Held("a", noise(40, 1)), Held("b", noise(80, 2))]
    wanted = table_of(gguf_bytes(held))

    assert is_same_model(wanted, table_of(gguf_bytes(list(reversed(held)), text="other text")))
    assert is_same_model(wanted, table_of(gguf_bytes([held[0], Held("b", noise(320, 2), F32)]))) is True
    assert not is_same_model(wanted, table_of(gguf_bytes(held, architecture="qwen3")))
    assert not is_same_model(wanted, table_of(gguf_bytes(held[:1])))
    assert not is_same_model(wanted, table_of(gguf_bytes([held[0], Held("b", noise(84, 2))])))


def test_a_later_shard_is_compared_by_its_tensors() -> None:
    held = [Held("a", noise(40, 1)), Held("b", noise(80, 2))]
    whole = table_of(gguf_bytes(held))
    metadata = {"split.count": 3, "split.no": 1}
    shard = replace(whole, header=replace(whole.header, metadata=metadata), tensors=whole.tensors[1:])

    assert is_same_model(shard, whole)
    assert is_same_model(whole, shard)
    assert not is_same_model(shard, table_of(gguf_bytes([Held("b", noise(84, 2))])))


class Assembly:
    """The engine's steps, in memory: header, samples, copies, the rest, and the digest's check."""

    def __init__(self, wanted: bytes, donors: Sequence[bytes], limits: ReuseLimits) -> None:
        self.wanted, self.donors = wanted, donors
        self.content, self.origin = bytearray(len(wanted)), bytearray(len(wanted))
        table = table_of(wanted)
        sampling = plan_sampling(
            find_candidates(table.tensors, [table_of(donor).tensors for donor in donors]), len(wanted), "seed", limits
        )
        for start, end in [(0, table.header.header_bytes or 0), *(sampling.ranges if sampling else ())]:
            self.fetch(start, end)
        chosen = choose_sources(sampling.candidates, sampling.ranges, self.agrees) if sampling else []
        for copy in plan_copies(chosen):
            self.copy(copy)
        self.copied_bytes = self.origin.count(b"c")
        self.fetch(0, len(wanted))
        self.is_wrong = self.content != wanted
        if self.is_wrong:
            self.origin = self.origin.replace(b"c", b"\0")
            self.fetch(0, len(wanted))

    def fetch(self, start: int, end: int) -> None:
        for at in range(start, end):
            if not self.origin[at]:
                self.content[at], self.origin[at] = self.wanted[at], ord("f")

    def agrees(self, probe: Copy) -> bool:
        theirs = self.donors[probe.donor][probe.source_offset :][: probe.length]
        return theirs == self.wanted[probe.target_offset : probe.target_end]

    def copy(self, copy: Copy) -> None:
        theirs = self.donors[copy.donor][copy.source_offset :][: copy.length]
        assert len(theirs) == copy.length, "a copy beyond the donor's end"
        assert ord("c") not in self.origin[copy.target_offset : copy.target_end], "copied twice"
        for at, byte in enumerate(theirs, copy.target_offset):
            if not self.origin[at]:
                self.content[at], self.origin[at] = byte, ord("c")


@settings(max_examples=150, deadline=None)
@given(related_files(longest_bytes=12_000), st.integers(1, 40))
def test_reuse_gives_the_right_bytes_for_any_two_files(pair, most_requests) -> None:
    wanted, donors = pair
    limits = ReuseLimits(1, 10**9, 0.6, most_requests)

    assembly = Assembly(wanted, donors, limits)

    assert assembly.content == wanted
    event("copied wrongly" if assembly.is_wrong else "copied" if assembly.copied_bytes else "nothing copied")


def test_a_longer_header_costs_only_its_own_bytes_and_the_samples() -> None:
    held = [Held(f"blk.{index}.weight", noise(60_000, index)) for index in range(10)]
    here, wanted = gguf_bytes(held), gguf_bytes(held, text="a longer chat template" * 100)

    assembly = Assembly(wanted, [here], ReuseLimits(1, 10**9, 0.2))

    assert (assembly.content, assembly.is_wrong) == (wanted, False)
    assert len(wanted) - assembly.copied_bytes <= (table_of(wanted).header.header_bytes or 0) + len(wanted) * 0.2


def test_a_changed_byte_outside_the_samples_is_found_by_the_digest() -> None:
    held = [Held(f"blk.{index}.weight", noise(60_000, index)) for index in range(4)]
    wanted, limits = gguf_bytes(held), ReuseLimits(1, 10**9, 0.3)
    tensors_here = table_of(wanted).tensors
    ranges = sampled(find_candidates(tensors_here, [tensors_here]), len(wanted), limits).ranges
    start = tensors_here[1].offset_bytes
    at = next(at for at in range(60_000) if not any(one <= start + at < end for one, end in ranges))
    changed = held[1].data[:at] + bytes([held[1].data[at] ^ 1]) + held[1].data[at + 1 :]

    assembly = Assembly(wanted, [gguf_bytes([held[0], Held(held[1].name, changed), *held[2:]])], limits)

    assert (assembly.content, assembly.is_wrong) == (wanted, True)
