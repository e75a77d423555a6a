"""What a hub lists, what a repository offers, and what each variant would cost. The manager finds the numbers."""

from functools import cached_property
from typing import Final, Literal

from msgspec.structs import replace

from gglib_nb.domain.companions import Companion
from gglib_nb.domain.fit import FitClass, MachineMemory, Placement
from gglib_nb.domain.memory import MemoryEstimate
from gglib_nb.domain.names import parse_path
from gglib_nb.domain.quality import Quality
from gglib_nb.domain.values import Value

Gate = Literal["auto", "manual"]


class HubFile(Value, frozen=True):
    """One file of a repository at a commit."""

    path: str
    size_bytes: int | None  # None: unknown
    sha256: str | None  # in hexadecimal; None: masked, or a small file that is kept in git


class FileCommit(Value, frozen=True):
    """The last commit that changed a file: the first line of its message, and its ISO date."""

    title: str
    date: str


class RepoListing(Value, frozen=True, dict=True):
    """All files of a repository at one commit."""

    repo_id: str
    commit_sha: str  # 40 hexadecimal digits
    gate: Gate | None  # how access is granted; None: open
    is_private: bool  # whether only a token shows it
    files: tuple[HubFile, ...]  # in the order of their paths

    @cached_property
    def _by_path(self) -> dict[str, HubFile]:
        return {file.path: file for file in self.files}

    def file(self, path: str) -> HubFile:
        """The file of that path; `KeyError` without one."""
        return self._by_path[path]

    def parts_of(self, path: str) -> tuple[HubFile, ...]:
        """What is stored as one file: the file of this path, or all pieces of its byte split; empty: none."""
        place = parse_path(path).place
        if place != path:
            return tuple(file for file in self.files if parse_path(file.path).place == place)
        return (self._by_path[path],) if path in self._by_path else ()

    def with_content(self, sha256: str | None) -> HubFile | None:
        """The file with that SHA-256, under any name; None without one."""
        return None if sha256 is None else next((file for file in self.files if file.sha256 == sha256), None)


class RepoSummary(Value, frozen=True):
    """One row of a search. None is unknown.

    Attributes:
        downloads: In the last 30 days.
        architecture: As in the GGUF header.
        gate: How access is granted; None: open.
        modified_at: ISO date of the last change.
        likely_size_bytes: Estimated size of the recommended variant.
        fit: Where this machine would probably hold that, as in `Placement`: `gpu`, `ram`, `gpu_partly` (only both
            together), `too_large` or `unknown`.
        is_here: Whether a model of it is registered.
    """

    repo_id: str
    downloads: int | None
    likes: int | None
    parameter_count: int | None
    architecture: str | None
    gate: Gate | None
    modified_at: str | None
    likely_size_bytes: int | None = None
    fit: FitClass = "unknown"
    is_here: bool = False
    page_url: str | None = None


BAD_FINDINGS: Final = frozenset({"unsafe", "suspicious"})
"""The results of the Hub's security scan that call a file bad; any other, such as `caution`, is only shown."""
_ENOUGH_BITS: Final = 8.6  # Q8_0; more bits do not give better answers
# Of Q4_K_M in llama.cpp's models of medium size, and the cache and buffers of some thousand tokens.
_LIKELY_BITS: Final = 4.85
_LIKELY_CONTEXT_BYTES: Final = 1536 * 1024**2


class VariantPlan(Value, frozen=True):
    """One variant and what it would cost. None is unknown.

    Attributes:
        key: The tail of its id, as `%gguf queue` takes it.
        label: Label of the quantization; None: the file names state none.
        present_bytes: Bytes that are on the disk already, finished or partial.
        free_bytes_after: Free space once everything queued and this variant are downloaded; negative: missing.
        memory: Memory when loaded.
        placement: Where this machine would load it; `placement_with_projector` of None: it has no projector.
        missing: 1-based numbers of files that the Hub lacks; such a variant is refused.
        is_recommended: `%gguf queue owner/repo` would take it; `why` says why.
        companions: What `--with` downloads with it, one of each kind.
        name: For display; the key unless that is a hash.
        reusable_bytes: Most bytes that could be copied from files on this machine, before samples confirm them.
        quality: What the publisher states of it.
        scan_finding: The verdict of the Hub's security scan on one of its files, such as `unsafe`; empty: no finding.
        is_big_endian: Whether it is for big-endian machines.
    """

    key: str
    label: str | None
    size_bytes: int | None
    shard_count: int
    bits_per_weight: float | None
    present_bytes: int
    free_bytes_after: int | None
    memory: MemoryEstimate | None
    placement: Placement
    missing: tuple[int, ...] = ()
    is_queued: bool = False
    is_recommended: bool = False
    why: str = ""
    companions: tuple[Companion, ...] = ()
    reusable_bytes: int | None = None
    name: str = ""
    placement_with_projector: Placement | None = None
    quality: Quality | None = None
    scan_finding: str = ""
    is_big_endian: bool = False

    @property
    def bytes_to_go(self) -> int | None:
        """Bytes to download; None: unknown."""
        return None if self.size_bytes is None else max(0, self.size_bytes - self.present_bytes)

    @property
    def is_complete(self) -> bool:
        """Whether the Hub has all its files."""
        return not self.missing

    @property
    def is_present(self) -> bool:
        """Whether it is completely downloaded."""
        return self.bytes_to_go == 0 and self.is_complete


class RepoPlan(Value, frozen=True):
    """What a repository offers. None is unknown, unless stated otherwise.

    Attributes:
        repo_id: As the Hub has it now.
        revision: As requested; None: the default branch.
        gate: How access is granted; None: open to all.
        has_access: Whether the token at hand may download the files.
        accept_url: The page on which to accept the terms; None: there are none.
        variants: The smallest first.
        context_tokens: The context of the memory estimates.
        free_bytes: Free on the filesystem of the models folder now.
        queued_bytes: What the queue will still write there.
        refusal: Why the files may not be downloaded, and what to do; empty if they may.
        undecided: Why no variant is recommended; empty if one is.
        unsafe_files: Paths of model files that the Hub's security scan does not call safe, each with its verdict.
        storage_limit_bytes: The setting of that name; None: no limit.
        storage_left_bytes: What registered models and the queue leave of it; negative: exceeded already.
    """

    repo_id: str
    revision: str | None
    commit_sha: str
    gate: Gate | None
    has_access: bool
    accept_url: str | None
    is_private: bool
    variants: tuple[VariantPlan, ...]
    companions: tuple[Companion, ...]
    context_tokens: int | None
    models_directory: str
    free_bytes: int | None
    queued_bytes: int
    machine: MachineMemory
    refusal: str = ""
    undecided: str = ""
    page_url: str | None = None
    unsafe_files: tuple[tuple[str, str], ...] = ()
    storage_limit_bytes: int | None = None
    storage_left_bytes: int | None = None

    @property
    def recommended(self) -> VariantPlan | None:
        """The variant that the rule takes; None: it cannot decide."""
        return next((variant for variant in self.variants if variant.is_recommended), None)

    @property
    def best_fit(self) -> VariantPlan | None:
        """The largest variant of at most 8.6 bits per weight, else the largest, that fits entirely; None: none fits.

        Entirely: on the GPUs with the requested context and cache; on a machine without one, in RAM. If none does and
        the recommended one is too large: the largest that the machine holds at all.
        """
        wanted = ("gpu" if self.machine.gpus else "ram"), self.context_tokens
        complete = (one for one in self.variants if one.is_complete and not one.is_big_endian)
        usable = [one for one in complete if one.scan_finding not in BAD_FINDINGS]
        fitting = [one for one in usable if (one.placement.fit, one.placement.context_tokens) == wanted]
        if not fitting and self.recommended is not None and self.recommended.placement.fit == "too_large":
            fitting = [one for one in usable if one.placement.arguments]
        usual = [one for one in fitting if (one.bits_per_weight or _ENOUGH_BITS) <= _ENOUGH_BITS]
        return max(usual or fitting, key=lambda one: one.size_bytes or 0, default=None)


def with_likely_fit(row: RepoSummary, memory: MachineMemory) -> RepoSummary:
    """The row with about the size of the model's Q4_K_M, and whether that fits the GPUs, else RAM, else both."""
    if row.parameter_count is None:
        return row
    size_bytes = int(row.parameter_count * _LIKELY_BITS / 8)
    budgets: dict[FitClass, int] = {"gpu": memory.gpu_budget_bytes, "ram": memory.ram_budget_bytes}
    if not memory.is_unified:
        budgets["gpu_partly"] = sum(budgets.values())
    fitting = (fit for fit, budget_bytes in budgets.items() if size_bytes + _LIKELY_CONTEXT_BYTES <= budget_bytes)
    return replace(row, likely_size_bytes=size_bytes, fit=next(fitting, "too_large"))
