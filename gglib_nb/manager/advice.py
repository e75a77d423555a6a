"""Advice before a download: what a repository offers and costs, which repositories exist, what a file contains.

A plan reads a listing and, for each model, the first bytes of one GGUF header: its quantizations differ only in their
weights. How much of a variant could be copied from files on this machine is estimated from the ends of headers.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gglib_nb.domain.choosing import Choice, choose, finding_of
from gglib_nb.domain.companions import COMPANION_KINDS
from gglib_nb.domain.download import PlannedDownload, PlannedFile
from gglib_nb.domain.fit import MachineMemory, Placement, model_shape, place
from gglib_nb.domain.gguf import (
    FILE_WINDOW_BYTES,
    ReadBytes,
    Tensor,
    TensorTable,
    read_header,
    read_tensors,
    tensors_in_tail,
)
from gglib_nb.domain.gguf_header import GgufHeader
from gglib_nb.domain.gguf_reuse import ReuseLimits, find_candidates, gain_bytes
from gglib_nb.domain.inspection import Comparison, Inspection, compare, inspection_of
from gglib_nb.domain.memory import CacheType, estimate_memory
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import DownloadId, target_path
from gglib_nb.domain.plan import RepoListing, RepoPlan, RepoSummary, VariantPlan, with_likely_fit
from gglib_nb.domain.quality import LONGEST_BYTES, Quality, stated_qualities, states_quality
from gglib_nb.domain.references import is_beginning, parse_pasted
from gglib_nb.domain.units import check_count
from gglib_nb.domain.values import known_sum
from gglib_nb.domain.variants import Variant, companion_for, first_name, variants_of
from gglib_nb.engine.disk import reading, storage_errors
from gglib_nb.engine.local import present_by_file
from gglib_nb.engine.reuse import DonorFile, find_donors
from gglib_nb.errors import (
    AmbiguousQuantizationError,
    GatedRepoError,
    GglibError,
    GgufError,
    HubError,
    HubUnavailableError,
    IncompleteShardSetError,
    InvalidConfigError,
    InvalidRepoIdError,
    ModelNotFoundError,
    NoGgufFilesError,
    RequestError,
    TransferError,
)
from gglib_nb.hub.client import HubClient
from gglib_nb.manager.calls import each, operation
from gglib_nb.manager.hardware import bytes_to_write, machine_memory, memory_for, queued_bytes
from gglib_nb.manager.library import bytes_of
from gglib_nb.manager.model_operations import ModelOperations
from gglib_nb.manager.resolving import folder_of, pointing_to_children, registered_donors, scan_findings, shard_files
from gglib_nb.system import device_of, free_bytes

if TYPE_CHECKING:
    from gglib_nb.manager.manager import Parts

DEFAULT_CONTEXT_TOKENS: Final = 8192

_KIB: Final = 1024
_MIB: Final = 1024**2
# How much of a header is read, in total and at once. Converters write the architecture first and the keys for the
# estimate next, before the vocabulary. mlx writes its keys in any order; then the vocabulary (some 16 MB) is read too.
_LOOKS: Final = ((256 * _KIB, 256 * _KIB), (32 * _MIB, 2 * _MIB))
# Repositories with more models are rare, and each further one costs two requests.
_MOST_MODELS: Final = 8
_AT_ONCE: Final = 8
# The whole header of any shard but the first is within this length. Of other files the description of the tensors is
# read, a few thousand bytes before and behind its place in a local file.
_BEGIN_BYTES: Final = 64 * _KIB
_BEFORE_BYTES: Final = 8 * _KIB
_BEHIND_BYTES: Final = 64 * _KIB
_COUNT: Final = slice(8, 16)
# Each file costs two short requests; a repository with more files is shown without the figure.
_MOST_FILES: Final = 64
_MOST_TEXTS: Final = 4  # a card, and JSON files that state the quality of variants
_LIMITS: Final = ReuseLimits()
_NEVER: Final = threading.Event()
_UNREADABLE: Final = (GgufError, HubError, TransferError, InvalidConfigError)


class AdviceOperations(ModelOperations):
    """Operations that need no queued download."""

    @operation
    def plan(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        context: int | None = None,
        cache_type: CacheType = "f16",
    ) -> RepoPlan:
        """What a repository offers and what each choice would cost; queues nothing.

        With a quantization it has only that variant. `context` is the number of tokens for which memory is estimated,
        8192 by default; `cache_type` is how llama.cpp stores keys and values: `f16`, `q8_0` or `q4_0`.

        Raises:
            RequestError: The quantization names no variant, several, or an incomplete one; or the context is not a
                positive whole number.
            HubError: The Hub refuses, or does not answer.
        """
        parts, tokens = self._parts, DEFAULT_CONTEXT_TOKENS if context is None else check_count("context", context)
        with pointing_to_children(parts.hub, repo_id):
            listing = parts.at_hub(parts.hub.list_files, repo_id, revision)
            queued = self._ask(lambda machine: machine.plans)
            # Not on a thread of the hub, because the disk may hang.
            return _Planning(parts, listing, queued, quantization, tokens, cache_type).plan(revision)

    @operation
    def search(
        self,
        words: str = "",
        *,
        max_parameters: float | None = None,
        licence: str | None = None,
        task: str | None = None,
        sort: str = "downloads",
        limit: int = 20,
    ) -> list[RepoSummary]:
        """The Hub's repositories with GGUF files that match the words, highest or newest first.

        For each one, whether it likely fits this machine and whether a model of it is registered.

        Args:
            words: Searched in the ids; empty words find all.
            max_parameters: Leaves out models with more parameters, and those for which the Hub states no number.
            licence: As the Hub names it, such as `apache-2.0`.
            task: As the Hub names it, such as `text-generation` or `image-text-to-text`.
            sort: `downloads`, `likes`, `trending`, `created` or `modified`.
            limit: Most rows to return.

        Raises:
            RequestError: There is no such order, or a limit is not positive.
            HubError: The Hub refuses, or does not answer.
        """
        check_count("limit", limit)
        if max_parameters is not None and max_parameters <= 0:
            raise RequestError(f"max_parameters is {max_parameters!r}; it must be a number above 0.")
        parts = self._parts
        found = parts.at_hub(
            parts.hub.search, words, max_parameters=max_parameters, licence=licence, task=task, sort=sort, limit=limit
        )
        here = {model.id.repo_id.casefold() for model in parts.registered()}
        rows, page = (with_likely_fit(row, self._memory) for row in found), f"{parts.hub.endpoint}/"
        return [replace(row, is_here=row.repo_id.casefold() in here, page_url=page + row.repo_id) for row in rows]

    @cached_property
    def _memory(self) -> MachineMemory:
        """The machine's memory, queried once for all searches, because that takes time."""
        return machine_memory()

    @operation
    def inspect(self, id: DownloadId | str, *, on_hub: bool = False) -> Inspection:  # noqa: A002 - the port's word
        """The contents of a model: metadata, chat template, tokenizer, tensors by type.

        A registered model is read from its files; with `on_hub`, and for any other id (`owner/repo`, with or without
        `:QUANT`), only the headers of the Hub's present version are read.

        Raises:
            RequestError: The repository has no such variant, or several.
            HubError: The Hub refuses, or cannot be reached.
            StorageError: A file is missing or cannot be read.
            GgufError: A file is not a GGUF file that can be read.
        """
        try:
            model = self.find_model(id)
        except ModelNotFoundError as missing:
            try:
                wanted = parse_pasted(str(id))
            except InvalidRepoIdError:
                raise missing from None
        else:
            if not on_hub:
                if is_beginning(str(id), model.id, model.label):
                    with suppress(GglibError):
                        return self._parts.at_hub(_inspect_on_hub, self._parts.hub, DownloadId.parse(str(id)))
                return _inspect_files(model)
            if not model.has_repository:
                raise RequestError(f"The repository of {model.id} is unknown, so it cannot be inspected there.")
            wanted = model.id
        return self._parts.at_hub(_inspect_on_hub, self._parts.hub, wanted)

    @operation
    def compare(self, first: DownloadId | str, second: DownloadId | str | None = None) -> Comparison:
        """How two models differ: keys with other values, the chat templates as a diff. Raises what `inspect` raises.

        Without the second, the first is a registered model, and is compared with the Hub's present version.
        """
        if second is not None:
            return compare(self.inspect(first), self.inspect(second))
        model = self.find_model(first)
        return compare(_inspect_files(model), self.inspect(model.id, on_hub=True))


def _inspect_files(model: Model) -> Inspection:
    tables = []
    for path in map(Path, model.paths):
        with storage_errors(path, "cannot be read"), reading(path) as (read, size_bytes):
            tables.append(_table(path.name, read, size_bytes))
    return inspection_of(str(model.id), model.size_bytes, tables, model.paths[0])


def _inspect_on_hub(hub: HubClient, wanted: DownloadId) -> Inspection:
    """The contents of a variant of a repository, without downloading it: only headers are read."""
    listing = hub.list_files(wanted.repo_id, wanted.revision)
    variants = variants_of((file.path, file.size_bytes) for file in listing.files)
    memory_bytes = memory_for(one.size_bytes for one in variants.offered)
    variant = choose(variants, wanted.quantization, memory_bytes, repository=listing.repo_id).variant
    if variant.size_bytes is None:
        raise HubUnavailableError(f"{listing.repo_id} does not state the size of {variant.files[0]}. Try again later.")
    files = list(zip(variant.files, variant.sizes, strict=True))
    if variant.split == "bytes":  # one GGUF file in pieces: its header is in the first
        files = [(variant.files[0], variant.size_bytes)]
    tables = [_table(path, _reader(hub, listing, path), size or 0, 2 * _MIB) for path, size in files]
    return inspection_of(str(DownloadId(listing.repo_id, variant.key)), variant.size_bytes, tables)


def _table(name: str, read: ReadBytes, size_bytes: int, window_bytes: int = FILE_WINDOW_BYTES) -> TensorTable:
    try:
        return read_tensors(read, size_bytes, window_bytes=window_bytes)
    except GgufError as error:
        raise GgufError(f"{name}: {error}") from error


# Plans ----------------------------------------------------------------------------------------------------------------


class _Planning:
    """What a plan rests on: the listing, the machine, the queue, and what is read of the files. Makes the plan."""

    def __init__(
        self,
        parts: "Parts",
        listing: RepoListing,
        queued: Sequence[PlannedDownload],
        quantization: str | None,
        context_tokens: int,
        cache_type: CacheType,
    ) -> None:
        self._parts, self._listing, self._queued = parts, listing, queued
        self._context_tokens, self._cache_type = context_tokens, cache_type
        self._variants = variants_of((file.path, file.size_bytes) for file in listing.files)
        self._machine = machine_memory()  # the free memory changes
        self._choice: Choice | None = None
        self._undecided = ""  # why there is no choice
        self._shown = self._variants.offered
        self._findings = {} if quantization is not None else scan_findings(parts.hub, listing, self._shown)
        choosing = partial(choose, self._variants, quantization, self._machine.all_bytes, repository=listing.repo_id)
        try:
            self._choice = choosing(findings=self._findings)
        except (AmbiguousQuantizationError, IncompleteShardSetError, NoGgufFilesError) as error:
            if quantization is not None or not self._shown:
                raise
            self._undecided = str(error)
        if quantization is not None and self._choice is not None:
            self._shown = (self._choice.variant,)
            self._findings = scan_findings(parts.hub, listing, self._shown)
        self._models = parts.registered()
        folder = parts.config.models_directory
        home = folder / listing.repo_id
        self._free_bytes = free_bytes(home)
        self._queued_bytes = queued_bytes(queued, device_of(home))
        here = (plan for plan in queued if (plan.id.repo_id, plan.commit_sha) == (listing.repo_id, listing.commit_sha))
        self._queued_keys = {plan.id.quantization for plan in here}  # requested by any revision
        self._gate: GatedRepoError | None = None
        self._headers: Mapping[tuple[str, ...], GgufHeader] = {}
        self._qualities: Mapping[str, Quality] = {}
        self._reusable_bytes: Mapping[str, int] = {}
        try:
            parts.hub.check_access(listing)
        except GatedRepoError as error:
            self._gate = error
        else:
            self._headers = _read_headers(parts.hub, listing, self._shown)
            self._qualities = _qualities(parts.hub, listing, self._variants.variants)
            self._reusable_bytes = reusable_bytes(parts.hub, folder, listing, self._shown, self._models)

    def plan(self, revision: str | None) -> RepoPlan:
        """The plan, with a row for each variant."""
        parts, listing, gate = self._parts, self._listing, self._gate
        rows = [self._row(variant, revision) for variant in self._shown]
        limit_bytes = left_bytes = parts.config.storage_limit_bytes
        if limit_bytes is not None:
            left_bytes = limit_bytes - bytes_of(self._models, self._queued)
        return RepoPlan(
            repo_id=listing.repo_id,
            revision=revision,
            commit_sha=listing.commit_sha,
            gate=listing.gate,
            has_access=gate is None,
            accept_url=gate.accept_url if gate is not None else None,
            is_private=listing.is_private,
            variants=tuple(sorted(rows, key=lambda plan: (plan.size_bytes or 0, plan.key))),
            companions=self._variants.companions,
            context_tokens=self._context_tokens if self._headers else None,
            models_directory=str(parts.config.models_directory),
            free_bytes=self._free_bytes,
            queued_bytes=self._queued_bytes,
            machine=self._machine,
            refusal=str(gate) if gate is not None else "",
            undecided=self._undecided,
            page_url=parts.hub.page_url(listing.repo_id),
            unsafe_files=tuple(self._findings.items()),
            storage_limit_bytes=limit_bytes,
            storage_left_bytes=left_bytes,
        )

    def _row(self, variant: Variant, revision: str | None) -> VariantPlan:
        files: list[PlannedFile] = []
        models_directory = self._parts.config.models_directory
        id_ = DownloadId(self._listing.repo_id, variant.key, revision)
        folder = folder_of(id_, self._models, models_directory) or models_directory
        # Parts of unknown length, or a name that cannot be stored: none of them can be on the disk.
        with suppress(HubUnavailableError, RequestError):
            files = shard_files(folder, self._listing, variant)
        companions = tuple(filter(None, (companion_for(self._variants, variant, kind) for kind in COMPANION_KINDS)))
        projector = next((one for one in companions if one.kind == "mmproj"), None)
        header, size_bytes = self._headers.get(first_name(variant).model), variant.size_bytes
        memory = beside = None
        if header is not None and size_bytes is not None:
            memory = estimate_memory(header, size_bytes, self._context_tokens, cache_type=self._cache_type)
        if projector is not None:
            beside = self._placement(header, size_bytes, projector.size_bytes or 0)
        is_queued = variant.key in self._queued_keys
        free_after = None  # its own bytes in the queue count once
        if self._free_bytes is not None and size_bytes is not None and files:
            free_after = self._free_bytes - self._queued_bytes - (0 if is_queued else bytes_to_write(files))
        choice = self._choice if self._choice is not None and variant is self._choice.variant else None
        return VariantPlan(
            key=variant.key,
            label=variant.quantization,
            size_bytes=size_bytes,
            shard_count=variant.shards_expected,
            bits_per_weight=variant.bits_per_weight,
            present_bytes=sum(present_by_file(files, self._listing.commit_sha)),
            free_bytes_after=free_after,
            memory=memory,
            placement=self._placement(header, size_bytes, 0),
            placement_with_projector=beside,
            name=variant.name,
            missing=variant.missing,
            is_queued=is_queued,
            is_recommended=choice is not None,
            why="" if choice is None else choice.why,
            companions=companions,
            reusable_bytes=self._reusable_bytes.get(variant.key),
            quality=self._qualities.get(variant.key),
            scan_finding=finding_of(variant, self._findings),
            is_big_endian=variant.is_big_endian,
        )

    def _placement(self, header: GgufHeader | None, size_bytes: int | None, beside_bytes: int) -> Placement:
        shape = None if header is None or size_bytes is None else model_shape(header, size_bytes, beside_bytes)
        return place(shape, self._machine, self._context_tokens, self._cache_type)


# What is read of the files --------------------------------------------------------------------------------------------


def _reader(hub: HubClient, listing: RepoListing, path: str) -> ReadBytes:
    return partial(hub.read_range, listing.repo_id, listing.commit_sha, path)


def _qualities(hub: HubClient, listing: RepoListing, variants: Sequence[Variant]) -> dict[str, Quality]:
    """The publisher's quality figures of the variants; none if they cannot be read."""
    texts = {}
    for file in [file for file in listing.files if states_quality(file.path)][:_MOST_TEXTS]:
        with suppress(GglibError):
            texts[file.path] = _reader(hub, listing, file.path)(0, min(LONGEST_BYTES, file.size_bytes or LONGEST_BYTES))
    return stated_qualities(texts, variants)


def _read_headers(
    hub: HubClient, listing: RepoListing, variants: Iterable[Variant]
) -> Mapping[tuple[str, ...], GgufHeader]:
    """The header of each model among the variants, eight at most; unreadable ones are left out."""

    def readability(variant: Variant) -> tuple[bool, bool, int]:
        return variant.is_complete, not variant.is_big_endian, -(variant.size_bytes or 0)

    chosen = {first_name(variant).model: variant for variant in sorted(variants, key=readability)}
    models = list(chosen)[:_MOST_MODELS]
    headers = each(lambda model: _header(hub, listing, chosen[model]), models, _AT_ONCE)
    return {model: header for model, header in zip(models, headers, strict=True) if header is not None}


def _header(hub: HubClient, listing: RepoListing, variant: Variant) -> GgufHeader | None:
    header: GgufHeader | None = None
    if (size_bytes := variant.sizes[0]) is not None:
        with suppress(*_UNREADABLE):
            for limit_bytes, window_bytes in _LOOKS:
                read = _reader(hub, listing, variant.files[0])
                header = read_header(read, size_bytes, limit_bytes=limit_bytes, window_bytes=window_bytes)
                has_begun = next(iter(header.metadata), "") == "general.architecture"
                is_enough = has_begun and estimate_memory(header, 0, 1).kv_cache_bytes is not None
                if is_enough or header.header_bytes is not None:
                    break
    return header


def reusable_bytes(
    hub: HubClient,
    models_directory: Path,
    listing: RepoListing,
    variants: Sequence[Variant],
    models: Iterable[Model],
    limits: ReuseLimits = _LIMITS,
) -> Mapping[str, int]:
    """The bytes of each variant that need no download if all tensors that look the same are; by the variants' keys.

    Variants for which that is unknown are left out. Without a possible donor no request is sent.
    """
    chosen = [one for one in variants if one.is_complete and one.split != "bytes" and None not in one.sizes]
    if not chosen or sum(len(one.files) for one in chosen) > _MOST_FILES:
        return {}
    path = chosen[0].files[0]
    donors: tuple[DonorFile, ...] = ()
    with suppress(RequestError):  # a name that cannot be stored
        target, others = target_path(models_directory, listing.repo_id, path), registered_donors(models, path)
        donors = find_donors(target, listing.repo_id, others, limits.least_gain_bytes, _NEVER)
    if not donors:
        return {}
    files = [file for one in chosen for file in zip(one.files, one.sizes, strict=True)]
    found = each(lambda file: _gain(_reader(hub, listing, file[0]), file[1] or 0, donors), files, _AT_ONCE)
    gains = {path: gain for (path, _), gain in zip(files, found, strict=True)}
    sums = {one.key: known_sum(gains[path] for path in one.files) for one in chosen}
    return {key: gain if gain >= limits.least_gain_bytes else 0 for key, gain in sums.items() if gain is not None}


def _gain(read: ReadBytes, size_bytes: int, donors: Sequence[DonorFile]) -> int | None:
    """The gain for one file; None if its header could not be read."""
    like = max(donors, key=lambda one: one.table.header.header_bytes or 0).table
    tensors: Sequence[Tensor] | None = None
    with suppress(*_UNREADABLE):
        begin = read(0, _BEGIN_BYTES)
        try:
            tensors = read_tensors(lambda offset, length: begin[offset : offset + length], size_bytes).tensors
        except GgufError:
            start = max(0, like.infos_start - _BEFORE_BYTES)
            tail = read(start, (like.header.header_bytes or 0) + _BEHIND_BYTES - start)
            tensors = tensors_in_tail(tail, start, size_bytes, like, int.from_bytes(begin[_COUNT], "little"))
    return None if tensors is None else gain_bytes(find_candidates(tensors, [donor.table.tensors for donor in donors]))
