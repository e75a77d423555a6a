"""How a model fits a machine, and with which arguments llama.cpp loads it that way.

llama.cpp splits the layers over all GPUs and keeps the rest in RAM: whole layers of a dense model (`-ngl`), the experts
of some layers of a mixture (`--n-cpu-moe`). A layer's cache is beside its weights. The classes, best first:

    gpu          all of it on the GPUs, with the requested context and cache
    gpu_reduced  all of it on the GPUs, with a q8_0 cache, else with less context, else with both
    gpu_partly   some layers, or all but some experts, on the GPUs and the rest in RAM
    ram          in RAM
    too_large    more than the machine has

Amounts are for one conversation at a time, so the arguments of llama-server say `-np 1`.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, pairwise, takewhile
from typing import Final, Literal, NamedTuple

from msgspec.structs import replace

from gglib_nb.domain.gguf_header import GgufHeader
from gglib_nb.domain.memory import CELLS_ROUNDED_TO, CacheLayout, CacheType, cache_layout, overhead_bytes
from gglib_nb.domain.values import Value, known_sum

FitClass = Literal["gpu", "gpu_reduced", "gpu_partly", "ram", "too_large", "unknown"]

_MIB: Final = 1024**2
# What a driver's context and a display use of a GPU; llama.cpp leaves 1 GiB free (`--fit-target`), which a full GPU
# rarely needs.
_GPU_RESERVE_BYTES: Final = 768 * _MIB
# What the system and a notebook use of RAM.
_RAM_RESERVE_BYTES: Final = 2048 * _MIB
_RAM_RESERVE_SHARE: Final = 0.1
_SHORTEST_CONTEXT: Final = 4096
_LONGEST_CONTEXT: Final = 1 << 20
_REDUCED_CACHE: Final[CacheType] = "q8_0"


class Gpu(Value, frozen=True):
    """One GPU that programs may use: its driver's name for it, and its memory; None: unknown.

    `is_shared`: that is part of the machine's RAM (Apple, AMD APU, NVIDIA Grace).
    """

    name: str
    total_bytes: int
    free_bytes: int | None = None
    is_shared: bool = False


class MachineMemory(Value, frozen=True):
    """The memory of a machine that this process may have, with a container's limit; what is free now may be unknown.

    `gpus` are those that `CUDA_VISIBLE_DEVICES` and the like leave visible; empty: none, or none can be queried.
    """

    ram_bytes: int
    gpus: tuple[Gpu, ...] = ()
    ram_free_bytes: int | None = None

    @property
    def all_bytes(self) -> int:
        """RAM, and the memory of GPUs of their own: llama.cpp can split a model over both."""
        return self.ram_bytes + sum(gpu.total_bytes for gpu in self.gpus if not gpu.is_shared)

    @property
    def vram_bytes(self) -> int | None:
        """Of all GPUs together; None: no GPU."""
        return sum(gpu.total_bytes for gpu in self.gpus) or None

    @property
    def vram_free_bytes(self) -> int | None:
        """Free now on all GPUs together; None: no GPU, or unknown."""
        return known_sum(gpu.free_bytes for gpu in self.gpus) if self.gpus else None

    @property
    def is_unified(self) -> bool:
        """Whether the GPUs use the machine's RAM."""
        return any(gpu.is_shared for gpu in self.gpus)

    @property
    def gpu_budget_bytes(self) -> int:
        """What models may take of the GPUs; of shared ones no more than of RAM."""
        most = self.ram_budget_bytes
        each = ((gpu.is_shared, gpu.total_bytes) for gpu in self.gpus)
        return sum(min(total, most) if shared else max(0, total - _GPU_RESERVE_BYTES) for shared, total in each)

    @property
    def ram_budget_bytes(self) -> int:
        """What models may take of RAM."""
        return max(0, self.ram_bytes - max(_RAM_RESERVE_BYTES, int(self.ram_bytes * _RAM_RESERVE_SHARE)))


class Placement(Value, frozen=True):
    """Where a model is loaded, with which context and cache, and what that takes of GPUs and RAM.

    Attributes:
        fit: `gpu`, `gpu_reduced`, `gpu_partly`, `ram`, `too_large` or `unknown`.
        gpu_layers: Layers on the GPUs, completely or except for their experts; of not all of them, one is the output.
        cpu_expert_layers: Layers of a mixture whose experts are in RAM.
        longest_gpu_context: The longest context that the GPUs hold with this cache; None: less than 4,096 tokens.
        fits_now: Whether it fits the memory that is free now; None: unknown.
        has_gpu: Whether the machine has a GPU.
        gpu_shares: Layers for each of several equal GPUs (`-ts`); empty: llama.cpp divides them well by itself.
    """

    fit: FitClass
    gpu_layers: int = 0
    layer_count: int = 0
    cpu_expert_layers: int = 0
    context_tokens: int = 0
    cache_type: CacheType = "f16"
    gpu_bytes: int = 0
    ram_bytes: int = 0
    longest_gpu_context: int | None = None
    fits_now: bool | None = None
    has_gpu: bool = False
    gpu_shares: tuple[int, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of llama-server; empty if it cannot be loaded."""
        if self.fit in ("too_large", "unknown"):
            return ()
        whole = self.gpu_layers == self.layer_count > 0
        most = max(99, self.layer_count + 1)  # with the output
        layers = ("-ngl", str(most if whole else self.gpu_layers)) if self.has_gpu else ()
        experts = ("--n-cpu-moe", str(self.cpu_expert_layers)) if self.cpu_expert_layers else ()
        shares = ("-ts", ",".join(map(str, self.gpu_shares))) if self.gpu_shares else ()
        cache = () if self.cache_type == "f16" else ("-ctk", self.cache_type, "-ctv", self.cache_type, "-fa", "on")
        return (*layers, *experts, *shares, "-c", str(self.context_tokens), *cache, "-np", "1")


class ModelShape(NamedTuple):
    """The facts about a model that its placement needs."""

    header: GgufHeader
    weights_bytes: int  # all its files, and what is loaded with them
    layout: CacheLayout
    block_count: int
    block_bytes: int  # weights of one layer, about
    expert_bytes: int  # of that the experts of a mixture; 0 without
    dense_blocks: int  # layers at the front that have no experts
    first_bytes: int  # on the GPUs before any layer: the output (`get_layer_buft_list` in llama-model.cpp), a projector
    host_bytes: int  # always in RAM: embeddings for each layer (`LLM_TENSOR_LAYER_INPUT` in src/llama-arch.cpp)

    def block_cache(self, context_tokens: int, cache_type: CacheType) -> list[int]:
        """Cache and state of each layer."""
        caches = self.layout.layer_bytes(context_tokens, 1, cache_type)
        return [cache + state for cache, state in zip(caches, self.layout.state_bytes(), strict=True)]

    def total(self, context_tokens: int, cache_type: CacheType, devices: int = 1) -> int:
        """All of it in one place; every device has its own buffers."""
        cache = sum(self.block_cache(context_tokens, cache_type))
        return self.weights_bytes + cache + devices * overhead_bytes(self.header, context_tokens)


def model_shape(header: GgufHeader, weights_bytes: int, beside_bytes: int = 0) -> ModelShape | None:
    """The shape of a model; None: its header does not say. `beside_bytes` are loaded with it, such as a projector."""
    layout, blocks = cache_layout(header), header.block_count
    if layout is None or not blocks:
        return None
    width, dense_blocks = header.embedding_length or 0, header.of_model("leading_dense_block_count") or 0
    expert_blocks = max(0, blocks - dense_blocks)
    embeddings = 2 * width * (header.vocabulary_size or 0)
    # Older mixtures, such as Mixtral, state no other width than that of a layer.
    widths = (header.at_layer(f"{key}feed_forward_length", blocks - 1) for key in ("expert_", ""))
    expert_width = next(filter(None, widths), 0)
    experts = (header.expert_count or 0) * 3 * width * expert_width
    for_layers = _layer_embeddings(header)
    total = embeddings + for_layers + blocks * _rest_parameters(header, width, expert_width) + expert_blocks * experts
    parts = (int(weights_bytes * one / total) if total else 0 for one in (experts, embeddings, for_layers))
    expert_bytes, embedding_bytes, host_bytes = parts
    rest_bytes = weights_bytes - embedding_bytes - host_bytes - expert_bytes * expert_blocks
    block_bytes = max(0, rest_bytes) // blocks + expert_bytes
    # The input's embeddings count as the GPUs', because a model without an output of its own has a copy there.
    amounts = block_bytes, expert_bytes, dense_blocks, embedding_bytes // 2 + beside_bytes, host_bytes
    return ModelShape(header, weights_bytes + beside_bytes, layout, blocks, *amounts)


def _layer_embeddings(header: GgufHeader) -> int:
    """Parameters of the embeddings for each layer: of every token (gemma3n, gemma4), or of every n-gram (qwen4exp)."""
    width = header.of_model("embedding_length_per_layer_input") or 0
    ngrams = header.per_layer("ple.head_vocab_sizes")
    of_tokens = (header.block_count or 0) * (header.vocabulary_size or 0)
    return width * (sum(ngrams) if isinstance(ngrams, tuple) else of_tokens)


def _rest_parameters(header: GgufHeader, width: int, expert_width: int) -> int:
    """Of one layer without its experts: attention, and the feed-forward part that every token goes through."""
    heads = header.at_layer("attention.head_count", 0) or 1
    heads_kv = header.at_layer("attention.head_count_kv", 0) or heads
    head = header.key_length or width // heads
    feed = header.at_layer("feed_forward_length", 0) or 4 * width
    if header.expert_count:
        shared = (header.of_model("expert_shared_count") or 0) * expert_width
        feed = header.of_model("expert_shared_feed_forward_length") or shared
    return 2 * width * head * (heads + heads_kv) + 3 * width * feed


def place(
    shape: ModelShape | None, machine: MachineMemory, context_tokens: int, cache_type: CacheType = "f16"
) -> Placement:
    """The first class that holds a model, by the machine's total memory; only `fits_now` is about free memory."""
    if shape is None:
        return Placement("unknown")
    if machine.is_unified:
        shape = shape._replace(host_bytes=0)  # all of it is in the memory that the GPUs share
    blocks, gpus, host_bytes = shape.block_count, len(machine.gpus), shape.host_bytes
    if gpus and host_bytes <= machine.ram_budget_bytes:
        # Part of a layer remains free at the end of each of several GPUs.
        budget = machine.gpu_budget_bytes - (gpus - 1) * shape.block_bytes + host_bytes
        if (fitting := next(_reductions(shape, budget, gpus, context_tokens, cache_type), None)) is not None:
            fit: FitClass = "gpu" if fitting == (context_tokens, cache_type) else "gpu_reduced"
            longest = _longest_context(shape, budget, gpus, cache_type)
            on_gpus = shape.total(*fitting, gpus) - host_bytes
            whole = Placement(fit, blocks, blocks, 0, *fitting, on_gpus, host_bytes, longest)
            return _with_free(whole, machine)
        asked = [(context_tokens, cache_type)]
        if shape.total(*asked[0]) > machine.ram_budget_bytes:
            # Of both memories together, less a layer, because layers are not divided.
            both = machine.ram_budget_bytes + (0 if machine.is_unified else budget - host_bytes) - shape.block_bytes
            asked += _reductions(shape, both, gpus, context_tokens, cache_type)
        if (partly := next(filter(None, (_split(shape, machine, budget, *one) for one in asked)), None)) is not None:
            return _with_free(partly, machine)
    if (fitting := next(_reductions(shape, machine.ram_budget_bytes, 1, context_tokens, cache_type), None)) is not None:
        return _with_free(Placement("ram", 0, blocks, 0, *fitting, 0, shape.total(*fitting)), machine)
    return Placement("too_large", 0, blocks, 0, context_tokens, cache_type)


def _longest_context(shape: ModelShape, budget_bytes: int, devices: int, cache_type: CacheType) -> int | None:
    """At most what the model was trained for; None: not even 4,096 tokens fit."""
    most = min(shape.header.context_length or _LONGEST_CONTEXT, _LONGEST_CONTEXT)
    contexts = range(0, most + 1, CELLS_ROUNDED_TO)
    fitting = bisect_right(contexts, budget_bytes, key=lambda tokens: shape.total(tokens, cache_type, devices))
    longest = contexts[fitting - 1] if fitting else 0
    return longest if longest >= min(_SHORTEST_CONTEXT, contexts[-1]) > 0 else None


def _reductions(
    shape: ModelShape, budget_bytes: int, devices: int, context_tokens: int, cache_type: CacheType
) -> Iterator[tuple[int, CacheType]]:
    """What fits a budget, the least reduced first: as requested, with a smaller cache, with less context, with both."""
    caches = dict.fromkeys((cache_type, _REDUCED_CACHE if cache_type == "f16" else cache_type))
    yield from ((context_tokens, one) for one in caches if shape.total(context_tokens, one, devices) <= budget_bytes)
    for cache in caches:
        longest = _longest_context(shape, budget_bytes, devices, cache)
        if longest is not None and longest < context_tokens:
            yield longest, cache


def _split(
    shape: ModelShape, machine: MachineMemory, budget_bytes: int, context_tokens: int, cache_type: CacheType
) -> Placement | None:
    """All but some experts on the GPUs; else the output and the last layers; None: RAM cannot hold the rest.

    `budget_bytes` are of the GPUs and of what is always in RAM.
    """
    blocks, gpus = shape.block_count, len(machine.gpus)
    everything = shape.total(context_tokens, cache_type, gpus)
    caches = shape.block_cache(context_tokens, cache_type)
    layers = [shape.block_bytes + cache for cache in [*caches, *[0] * (blocks - len(caches))]]
    moved = -(-(everything - budget_bytes) // shape.expert_bytes) if shape.expert_bytes else blocks
    shares: tuple[int, ...] = ()
    if shape.expert_bytes and shape.dense_blocks + moved <= blocks:
        count, cpu_expert_layers = blocks, shape.dense_blocks + moved
        on_gpus = everything - shape.host_bytes - moved * shape.expert_bytes
        for number in range(shape.dense_blocks, cpu_expert_layers):
            layers[number] -= shape.expert_bytes
        shares = _shares([*layers, shape.first_bytes], machine.gpus)
    else:
        buffers = gpus * overhead_bytes(shape.header, context_tokens)
        sums = accumulate(reversed(layers), initial=buffers + shape.first_bytes)
        fitting = list(takewhile(lambda taken: taken + shape.host_bytes <= budget_bytes, sums))
        count, cpu_expert_layers = min(len(fitting), blocks - 1), 0  # with the output, which counts as one
        if count < 2:
            return None
        on_gpus = fitting[count - 1]
    in_ram = everything - on_gpus
    # Shared GPUs use part of RAM.
    if in_ram + (on_gpus if machine.is_unified else 0) > machine.ram_budget_bytes:
        return None
    found = Placement("gpu_partly", count, blocks, cpu_expert_layers, context_tokens, cache_type, on_gpus, in_ram)
    return replace(found, gpu_shares=shares)


def _shares(layers_bytes: list[int], gpus: tuple[Gpu, ...]) -> tuple[int, ...]:
    """Numbers of layers, and the output, that take the same memory of each GPU; empty without several equal ones.

    llama.cpp gives equal GPUs equal numbers of layers, large and small. CUDA numbers different GPUs in another order.
    """
    if len(gpus) < 2 or len({gpu.total_bytes for gpu in gpus}) > 1:
        return ()
    sums = list(accumulate(layers_bytes))
    ends = [bisect_right(sums, sums[-1] * number // len(gpus)) for number in range(len(gpus) + 1)]
    return tuple(end - start for start, end in pairwise(ends))


def _with_free(found: Placement, machine: MachineMemory) -> Placement:
    # What is beside shared GPUs has the same free memory.
    in_ram = found.ram_bytes + (found.gpu_bytes if machine.is_unified and found.ram_bytes else 0)
    parts = ((found.gpu_bytes, machine.vram_free_bytes), (in_ram, machine.ram_free_bytes))
    known = all(free is not None for needed, free in parts if needed)
    fits_now = all(needed <= (free or 0) for needed, free in parts) if known else None
    return replace(found, fits_now=fits_now, has_gpu=bool(machine.gpus))
