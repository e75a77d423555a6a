"""What a repository offers and what each choice would cost, before a byte is spent. Values and their arithmetic only.

The numbers are found by the manager: it asks the Hub, the disk and the machine. Here is only what follows from them.
"""

from typing import Final, Literal

from gglib_nb.domain.fit import MachineMemory, Placement
from gglib_nb.domain.listing import Gate
from gglib_nb.domain.memory import MemoryEstimate
from gglib_nb.domain.values import Value

Fit = Literal["fits", "tight", "too large", "unknown"]
# Part of the memory that a model may take before the rest of the machine (or the display, on a GPU) starts to feel it.
_COMFORTABLE: Final = 0.85
_ENOUGH_BITS: Final = 8.6  # Q8_0; more bits answer no better


class PlannedCompanion(Value, frozen=True):
    """A file that goes with the variants.

    Attributes:
        path: Path in the repository.
        kind: `mmproj`, `imatrix`, ...
        size_bytes: None unknown.
        can_fetch: Whether `--with` can fetch it together with a variant.
    """

    path: str
    kind: str
    size_bytes: int | None
    can_fetch: bool


class VariantPlan(Value, frozen=True):
    """One variant and what it would cost.

    Attributes:
        key: The tail of its id, as `%gguf queue` takes it.
        label: Quantization label; None where its files carry none.
        size_bytes: All its files; None unknown.
        shard_count: Files of the whole set.
        bits_per_weight: None unknown.
        present_bytes: Bytes of it that are on the disk already, finished or partial.
        free_bytes_after: Free on the filesystem of the models folder once everything queued and this are there; negative:
            so much is missing; None unknown.
        memory: What it takes when loaded; None unknown.
        placement: Where it goes on this machine, and how to load it there.
        placement_with_projector: The same with the projector that belongs to it; None without one.
        missing: 1-based numbers of files that the Hub lacks; a variant with some is refused.
        is_queued: In the queue now.
        is_recommended: What `%gguf queue owner/repo` would take.
        why: Why it is recommended; empty where it is not.
        companions: What `--with` fetches with it, one of a kind.
        name: What to show for it; the key unless that is a hash.
        reusable_bytes: Of its bytes, how many could be copied from files on this machine, at most: as many as samples will
            confirm. None where that was not looked for or is unknown.
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
    companions: tuple[PlannedCompanion, ...] = ()
    reusable_bytes: int | None = None
    name: str = ""
    placement_with_projector: Placement | None = None

    @property
    def bytes_to_go(self) -> int | None:
        """What would come over the line; None unknown."""
        return None if self.size_bytes is None else max(0, self.size_bytes - self.present_bytes)

    @property
    def is_complete(self) -> bool:
        """Whether the Hub has every file of it."""
        return not self.missing

    @property
    def is_present(self) -> bool:
        """Whether all of it is already downloaded."""
        return self.bytes_to_go == 0 and self.is_complete


class RepoPlan(Value, frozen=True):
    """What a repository offers.

    Attributes:
        repo_id: As the Hub has it now.
        revision: As asked for; None is the default branch.
        commit_sha: What that is.
        gate: How access is granted; None: open to all.
        has_access: Whether the files may be fetched with the token at hand.
        accept_url: The page on which to accept the terms; None where nothing is to be accepted.
        is_private: Only a token shows it.
        variants: The smallest first.
        companions: Every file that goes with them.
        context_tokens: What the memory was estimated for; None where it was not.
        models_directory: Where it would go.
        free_bytes: Free on the filesystem of the repository's folder there now; None unknown.
        queued_bytes: What the queue will still write on that filesystem.
        machine: What memory there is; None unknown.
        refusal: Why the files may not be fetched and what to do about it; empty where they may.
        undecided: Why the rule takes none; empty where it does.
        page_url: Its page on the hub; None unknown.
        unsafe_files: Paths of its model files that the Hub's security scan does not call safe, each with what it calls them.
        storage_limit_bytes: How much space all models may take (the setting of that name); None: no limit.
        storage_left_bytes: What of that the models that are here, and the queue, leave; negative: exceeded already.
    """

    repo_id: str
    revision: str | None
    commit_sha: str
    gate: Gate | None
    has_access: bool
    accept_url: str | None
    is_private: bool
    variants: tuple[VariantPlan, ...]
    companions: tuple[PlannedCompanion, ...]
    context_tokens: int | None
    models_directory: str
    free_bytes: int | None
    queued_bytes: int
    machine: MachineMemory | None
    refusal: str = ""
    undecided: str = ""
    page_url: str | None = None
    unsafe_files: tuple[tuple[str, str], ...] = ()
    storage_limit_bytes: int | None = None
    storage_left_bytes: int | None = None

    @property
    def recommended(self) -> VariantPlan | None:
        """What the rule would take; None where it cannot decide."""
        return next((variant for variant in self.variants if variant.is_recommended), None)

    @property
    def best_fit(self) -> VariantPlan | None:
        """The best variant that fits entirely, of at most 8.6 bits per weight if there is one; None where none fits.

        Entirely: on the GPUs with the context and cache that were asked for; on a machine without one, in RAM.
        """
        wanted = "gpu" if self.machine is not None and self.machine.gpus else "ram"
        fitting = [
            one
            for one in self.variants
            if one.placement.fit == wanted and one.is_complete and one.placement.context_tokens == self.context_tokens
        ]
        usual = [one for one in fitting if (one.bits_per_weight or _ENOUGH_BITS) <= _ENOUGH_BITS]
        return max(usual or fitting, key=lambda one: one.size_bytes or 0, default=None)

    @property
    def ram_bytes(self) -> int | None:
        """The machine's memory; None unknown."""
        return None if self.machine is None else self.machine.ram_bytes

    @property
    def vram_bytes(self) -> int | None:
        """Of all GPUs together; None without one, or where none can be asked."""
        return None if self.machine is None else self.machine.vram_bytes


def fit_of(needed_bytes: int | None, available_bytes: int | None) -> Fit:
    """How what is needed goes into what there is; `tight` leaves less than 15 % of it to everything else."""
    if needed_bytes is None or available_bytes is None:
        return "unknown"
    if needed_bytes > available_bytes:
        return "too large"
    return "fits" if needed_bytes <= available_bytes * _COMFORTABLE else "tight"
