"""Realistic queues, for screenshots and for tests of the panel's appearance."""

import time
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from gglib_nb.domain.companions import Companion
from gglib_nb.domain.download import DownloadStatus, ShardStatus, StoredFile
from gglib_nb.domain.fit import FitClass, MachineMemory, Placement
from gglib_nb.domain.gguf import TensorTable
from gglib_nb.domain.gguf_header import GgufHeader
from gglib_nb.domain.inspection import inspection_of
from gglib_nb.domain.library import Deletion, ModelUse, PrunePlan
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.plan import RepoPlan, RepoSummary, VariantPlan
from gglib_nb.domain.snapshot import QueuedDownload, ShardProgress
from gglib_nb.domain.stored import PastDownload
from gglib_nb.errors import DiskFullError, GatedRepoError, IntegrityError, QueueFullError
from tests.support.fake_manager import FakeManager
from tests.support.snapshots import GB, NOW_S, completed, download, run_summary, shards

MB = 10**6


def _sharded() -> QueuedDownload:
    sizes, done = [5 * GB, 5 * GB, 5 * GB, 2 * GB], [5 * GB, 3 * GB + 210 * MB, GB + 77 * MB, 0]
    bars = list(shards("UD-Q4_K_XL/Qwen3-30B-A3B-Instruct-2507-UD-Q4_K_XL", sizes, done))
    bars[1] = replace(bars[1], arrived_steps=(0, 62, 68, 80, 86, 94), verified_steps=57)
    bars[2] = replace(bars[2], arrived_steps=(0, 13, 18, 26, 32, 39), verified_steps=11)
    return download(
        "unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF:UD-Q4_K_XL",
        "downloading",
        total_bytes=17 * GB,
        downloaded_bytes=sum(done),
        shards=tuple(bars),
        bytes_per_second=58.4e6,
        eta_seconds=141.0,
        started_at_s=NOW_S,
    )


def _vision() -> QueuedDownload:
    item = download(
        "ggml-org/gemma-3-12b-it-GGUF:Q4_K_M",
        "downloading",
        total_bytes=7 * GB,
        downloaded_bytes=900 * MB,
        bytes_per_second=0.0,
    )
    projector = ShardProgress(2, "mmproj-model-f16.gguf", "mmproj", 815 * MB, 0, ShardStatus.QUEUED)
    return replace(
        item,
        companions=(projector,),
        total_bytes=7 * GB + 815 * MB,
        notice="stalled for 12 s",
        notice_kind="stalled",
        started_at_s=NOW_S,
    )


def busy() -> FakeManager:
    """A working day: two active, some waiting, one failed, two complete."""
    return FakeManager(
        _sharded(),
        _vision(),
        download("bartowski/Llama-3.2-3B-Instruct-GGUF:Q6_K", total_bytes=int(2.5 * GB)),
        download(
            "Qwen/Qwen2.5-Coder-7B-Instruct-GGUF:Q4_K_M",
            "paused",
            total_bytes=int(4.4 * GB),
            downloaded_bytes=int(1.2 * GB),
        ),
        download("mradermacher/Mistral-Small-3.2-24B-Instruct-2506-i1-GGUF:i1-IQ4_XS", total_bytes=int(11.9 * GB)),
        _disk_full(),
        completed("ggml-org/SmolLM3-3B-GGUF:Q4_K_M", total_bytes=int(1.8 * GB), seconds=42),
        bytes_per_second=58.4e6,
        eta_seconds=512.0,
    )


def _twelve_shards() -> QueuedDownload:
    size = int(4.6 * GB)
    sizes = [*[size] * 11, int(1.9 * GB)]
    done = [*[size] * 5, int(3.9 * GB), int(2.2 * GB), int(0.7 * GB), *[0] * 4]
    bars = list(shards("Q4_K_M/Qwen3-Coder-480B-A35B-Instruct-Q4_K_M", sizes, done))
    bars[4] = replace(bars[4], status=ShardStatus.VERIFYING, verified_steps=101)
    bars[5] = replace(bars[5], arrived_steps=(0, 70, 74, 86, 90, 112, 116, 121), verified_steps=66)
    bars[6] = replace(bars[6], arrived_steps=(0, 32, 40, 52, 56, 64, 70, 78), verified_steps=30)
    bars[7] = replace(bars[7], arrived_steps=(0, 8, 12, 18, 22, 28), verified_steps=7)
    return download(
        "unsloth/Qwen3-Coder-480B-A35B-Instruct-GGUF:Q4_K_M",
        "downloading",
        total_bytes=sum(sizes),
        downloaded_bytes=sum(done),
        shards=tuple(bars),
        bytes_per_second=41.7e6,
        eta_seconds=624.0,
        started_at_s=NOW_S,
    )


def _past(text: str, outcome: str, size_bytes: int, *, days: float, seconds: float, **fields: Any) -> PastDownload:
    ended_at_s = NOW_S - days * 86_400
    plain = PastDownload(
        DownloadId.parse(text), DownloadStatus(outcome), size_bytes, None, ended_at_s - seconds, ended_at_s
    )
    return replace(plain, **fields)


def earlier() -> FakeManager:
    """One complete download, and four that ended in earlier kernels."""
    manager = FakeManager(completed("ggml-org/SmolLM3-3B-GGUF:Q4_K_M", total_bytes=int(1.8 * GB), seconds=42))
    llama, qwen = "bartowski/Llama-3.2-3B-Instruct-GGUF:Q6_K", "unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF:UD-Q4_K_XL"
    gemma, smol = "ggml-org/gemma-3-12b-it-GGUF:Q4_K_M", "ggml-org/SmolLM3-3B-GGUF:Q4_K_M"
    manager.answers["history"] = [
        _past(llama, "completed", int(2.6 * GB), days=0.1, seconds=43, bytes_per_second=61.2e6),
        _past(qwen, "failed", 17 * GB, days=1, seconds=4000, error="The line was cut."),
        _past(gemma, "cancelled", int(7.3 * GB), days=1.2, seconds=65),
        _past(smol, "completed", int(1.8 * GB), days=3, seconds=0.4, was_present=True),
    ]
    return manager


def halfway() -> FakeManager:
    """A model in twelve files, a vision model, and four in one file: all of them active, waiting or complete."""
    vision = _vision()
    projector = replace(
        vision.companions[0],
        downloaded_bytes=300 * MB,
        status=ShardStatus.DOWNLOADING,
        arrived_steps=(0, 20, 30, 44, 60, 74),
        verified_steps=18,
    )
    model = replace(vision.shards[0], arrived_steps=(0, 10, 12, 16, 20, 24), verified_steps=9)
    return FakeManager(
        _twelve_shards(),
        replace(
            vision,
            shards=(model,),
            companions=(projector,),
            downloaded_bytes=1200 * MB,
            notice=None,
            notice_kind=None,
            bytes_per_second=16.7e6,
            eta_seconds=380.0,
        ),
        download("bartowski/Llama-3.2-3B-Instruct-GGUF:Q6_K", total_bytes=int(2.5 * GB)),
        download(
            "Qwen/Qwen2.5-Coder-7B-Instruct-GGUF:Q4_K_M",
            total_bytes=int(4.4 * GB),
            downloaded_bytes=int(1.2 * GB),
        ),
        download("mradermacher/Mistral-Small-3.2-24B-Instruct-2506-i1-GGUF:i1-IQ4_XS", total_bytes=int(11.9 * GB)),
        completed("ggml-org/SmolLM3-3B-GGUF:Q4_K_M", total_bytes=int(1.8 * GB), seconds=42),
        bytes_per_second=58.4e6,
        eta_seconds=912.0,
    )


def _disk_full() -> QueuedDownload:
    text = "The disk of /home/ada/models is full: 24.9 GB more is needed, but only 3.1 GB is free. Free up some space, then retry. Downloaded data is kept."
    return download(
        "unsloth/DeepSeek-R1-Distill-Llama-70B-GGUF:Q4_K_M",
        "failed",
        total_bytes=40 * GB,
        downloaded_bytes=int(15.1 * GB),
        error=DiskFullError(text),
        can_retry=True,
    )


def errors() -> FakeManager:
    """Three failures for different reasons, and the summary of a run without a success."""
    gated = GatedRepoError(
        "google/gemma-3-27b-it-qat-q4_0-gguf is gated. Accept its terms on its page, then retry.",
        accept_url="https://huggingface.co/google/gemma-3-27b-it-qat-q4_0-gguf",
    )
    wrong = IntegrityError("Broken-7B-Q5_K_M.gguf failed its SHA-256 check twice and was deleted. Try again later.")
    return FakeManager(
        _disk_full(),
        download(
            "google/gemma-3-27b-it-qat-q4_0-gguf:Q4_0", "failed", total_bytes=16 * GB, error=gated, can_retry=True
        ),
        download("example/Broken-7B-GGUF:Q5_K_M", "failed", total_bytes=5 * GB, error=wrong, can_retry=True),
        last_run=run_summary(failed=3),
    )


def done() -> FakeManager:
    """Everything is complete."""
    return FakeManager(
        completed("unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF:UD-Q4_K_XL", total_bytes=17 * GB, seconds=311),
        completed("ggml-org/SmolLM3-3B-GGUF:Q4_K_M", total_bytes=int(1.8 * GB), seconds=42),
        replace(completed("bartowski/Llama-3.2-3B-Instruct-GGUF:Q6_K", total_bytes=int(2.5 * GB)), was_present=True),
        download(
            "Qwen/Qwen2.5-Coder-7B-Instruct-GGUF:Q4_K_M",
            "cancelled",
            total_bytes=int(4.4 * GB),
            downloaded_bytes=int(1.2 * GB),
        ),
        last_run=replace(run_summary(completed=3, cancelled=1), ended_at_s=NOW_S + 353),
    )


def many(rows: int = 50) -> FakeManager:
    """More than fits on a screen."""
    waiting = [
        download(f"owner-{number % 7}/Model-{number:03}-Instruct-GGUF:Q4_K_M", total_bytes=(number % 9 + 1) * GB)
        for number in range(1, rows)
    ]
    return FakeManager(_sharded(), *waiting, bytes_per_second=58.4e6, eta_seconds=9_000.0, max_size=rows + 10)


def empty() -> FakeManager:
    """Nothing yet."""
    return FakeManager()


def choosing() -> FakeManager:
    """A manager that knows one repository's variants."""
    manager = FakeManager()
    manager.answers["plan"] = offered()
    manager.answers["search"] = [
        _found("bartowski/Llama-3.2-3B-Instruct-GGUF", 412_000, 3_212_749_888, fit="ram", is_here=True),
        _found("unsloth/Llama-3.3-70B-Instruct-GGUF", 87_200, 70_553_706_496, fit="too_large"),
        _found("hugging-quants/Llama-3.2-3B-Instruct-Q8_0-GGUF", 9_950, None, gate="manual"),
    ]
    return manager


def _found(repo_id: str, downloads: int, parameters: int | None, **fields: Any) -> RepoSummary:
    size = None if parameters is None else int(parameters * 0.6)
    return RepoSummary(
        repo_id,
        downloads,
        downloads // 1000,
        parameters,
        "llama",
        fields.pop("gate", None),
        None,
        page_url=f"https://huggingface.co/{repo_id}",
        likely_size_bytes=size,
        **fields,
    )


def offered() -> RepoPlan:
    """A repository's variants, with every kind of line."""
    free = 118 * GB
    projector = Companion("mmproj-model-f16.gguf", "mmproj", 815 * MB)

    def variant(label: str, gb: float, bits: float, fit: FitClass, **fields: Any) -> VariantPlan:
        size = int(gb * GB)
        plain = VariantPlan(
            label,
            label,
            size,
            1,
            bits,
            0,
            free - size,
            None,
            Placement(fit, context_tokens=8192),
            companions=(projector,),
        )
        return replace(plain, **fields)

    return RepoPlan(
        repo_id="ggml-org/gemma-3-12b-it-GGUF",
        revision=None,
        commit_sha="0" * 40,
        gate=None,
        has_access=True,
        accept_url=None,
        is_private=False,
        variants=(
            variant("IQ4_XS", 6.1, 4.4, "ram"),
            variant("Q4_K_M", 6.8, 4.9, "ram", is_recommended=True),
            variant("Q5_K_M", 7.9, 5.7, "ram", present_bytes=3 * GB),
            variant("Q8_0", 11.7, 8.5, "ram", present_bytes=12 * GB),
            variant("BF16", 21.9, 16.0, "too_large", shard_count=2),
            variant("F32", 43.8, 32.0, "too_large", shard_count=4, missing=(3,)),
        ),
        companions=(projector,),
        context_tokens=8192,
        models_directory="/home/ada/models",
        free_bytes=free,
        queued_bytes=0,
        machine=MachineMemory(16 * 1024**3),
        page_url="https://huggingface.co/ggml-org/gemma-3-12b-it-GGUF",
    )


def models() -> FakeManager:
    """Some models are stored, and all downloads have ended."""
    manager = done()
    manager.registered = [
        _model("unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF:UD-Q4_K_XL", 17.7, "qwen3moe", 30_532_122_624, files=4),
        _model("ggml-org/gemma-3-12b-it-GGUF:Q4_K_M", 7.3, "gemma3", 11_765_788_416, projector=True),
        _model("ggml-org/SmolLM3-3B-GGUF:Q4_K_M", 1.8, "smollm3", 3_075_098_624, is_verified=False),
    ]
    manager.uses = {str(model.id): time.time() - 7 * 86_400 for model in manager.registered[:2]}
    manager.answers["loading_lines"] = lambda id_, program: f"{program} {id_}"
    manager.answers["inspect"] = lambda id_: inspection_of(id_, int(1.8 * GB), [TensorTable(_HEADER, (), 0, "a")])
    unused = ModelUse("ggml-org/SmolLM3-3B-GGUF:Q4_K_M", int(1.8 * GB), NOW_S)
    manager.answers["prune"] = PrunePlan((unused,), (), int(25.8 * GB), 0)
    manager.answers["delete"] = lambda id_, dry_run: Deletion(
        id_, ("/home/ada/models/a.gguf",), int(17.7e9), (), is_dry_run=dry_run
    )
    return manager


def stores() -> FakeManager:
    """A model of another program's folder, and a folder that is not mounted."""
    manager = models()
    manager.registered = [replace(manager.registered[0], origin="store")]
    manager.missing_stores = ("/mnt/lab",)
    return manager


_HEADER = GgufHeader(
    3, 0, {"general.architecture": "smollm3", "tokenizer.chat_template": "{{ a }}"}, {}, {}, True, None, 64
)


def _model(
    text: str,
    size_gb: float,
    architecture: str,
    parameters: int,
    *,
    files: int = 1,
    projector: bool = False,
    is_verified: bool = True,
) -> Model:
    id_ = DownloadId.parse(text)
    stem = f"{id_.repo_id.rpartition('/')[2].removesuffix('-GGUF')}-{id_.quantization}"
    facts: dict[str, str | int | float | bool | None] = {
        "architecture": architecture,
        "parameter_count": parameters,
        "context_length": 32_768,
    }

    def file(name: str, kind: str, size: float) -> StoredFile:
        path = f"/home/ada/models/{id_.repo_id}/{name}"
        return StoredFile(path, name, kind, int(size * GB), "0" * 64, is_verified, 1, False, facts)

    names = [f"{stem}.gguf"] if files == 1 else [f"{stem}-{at:05}-of-{files:05}.gguf" for at in range(1, files + 1)]
    stored = [file(name, "shard", size_gb / files) for name in names]
    stored += [file("mmproj-model-f16.gguf", "mmproj", 0.8)] if projector else []
    return Model(id_, "0" * 40, id_.quantization, tuple(stored), NOW_S)


def queue_full() -> QueueFullError:
    """The refusal of a full queue."""
    return QueueFullError("The queue is full: 10 downloads wait. Remove one, or raise the limit.", max_size=10)


def never() -> Future[Any]:
    """A missing answer."""
    return Future()
