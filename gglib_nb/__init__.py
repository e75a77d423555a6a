"""GGUF models from the Hugging Face Hub, in a notebook.

    %load_ext gglib_nb
    %gguf queue owner/repo:Q4_K_M          # in any cell; the queue goes on while other cells run
    %gguf                                  # the panel
    path = await gglib_nb.download("owner/repo", "Q4_K_M")

The package, from the ground up: `errors` and `domain` are values and rules; `queue` is the queue as a pure state
machine; `hub`, `engine`, `catalog` and `settings` meet the world; `manager` is the download port; `notebook` is
what a person sees. `demo` is a hub of one's own on loopback. What is listed in `__all__` is promised, the rest is not.

Importing this costs next to nothing: everything below is imported when it is first used.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

from gglib_nb.errors import (
    AlreadyQueuedError,
    AmbiguousQuantizationError,
    CatalogDamagedError,
    CatalogError,
    CertificateError,
    ClusterError,
    DiskFullError,
    DownloadCancelledError,
    DownloadInterruptedError,
    DownloadsFailedError,
    EngineLostError,
    GatedRepoError,
    GglibError,
    GgufError,
    HubError,
    HubUnavailableError,
    IncompleteShardSetError,
    IntegrityError,
    InvalidConfigError,
    InvalidQuantizationError,
    InvalidRepoIdError,
    InvalidTokenError,
    ManagerClosedError,
    ModelNotFoundError,
    NetworkError,
    NoGgufFilesError,
    NotInQueueError,
    OfflineError,
    ProxyError,
    QueueError,
    QueueFullError,
    RateLimitedError,
    RemoteChangedError,
    RepoNotFoundError,
    RequestError,
    RevisionNotFoundError,
    StalledError,
    StorageError,
    TransferError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from IPython.core.interactiveshell import InteractiveShell

    from gglib_nb.domain.download import (
        DownloadRequest,
        DownloadStatus,
        HostProgress,
        QueuedDownload,
        QueueRunSummary,
        QueueSnapshot,
        RunItem,
        ShardProgress,
        ShardStatus,
    )
    from gglib_nb.domain.events import (
        DownloadCancelled,
        DownloadCompleted,
        DownloadFailed,
        DownloadProgressed,
        DownloadStarted,
        NoticeChanged,
        QueueEvent,
        RunSummarized,
        ShardProgressed,
        SnapshotChanged,
        StatusChanged,
    )
    from gglib_nb.domain.fit import Gpu, MachineMemory, Placement
    from gglib_nb.domain.history import PastDownload
    from gglib_nb.domain.importing import ImportProgress, ImportReport, SkippedFile
    from gglib_nb.domain.library import (
        CheckedFile,
        Deletion,
        DiskUse,
        FileChange,
        KeptFile,
        ModelUpdate,
        QueuedUpdate,
        Repair,
        Verification,
        VerifyProgress,
    )
    from gglib_nb.domain.memory import MemoryEstimate
    from gglib_nb.domain.model import Model
    from gglib_nb.domain.model_summary import ModelSummary
    from gglib_nb.domain.plan import PlannedCompanion, RepoPlan, VariantPlan
    from gglib_nb.domain.presets import PresetFile
    from gglib_nb.domain.quantization import Quantization
    from gglib_nb.domain.references import DownloadId
    from gglib_nb.domain.variants import Variant, Variants, variants_of
    from gglib_nb.manager.manager import DownloadManager
    from gglib_nb.manager.operations import FinishedDownload, SmartQueueResult
    from gglib_nb.manager.progress_watch import Progress
    from gglib_nb.manager.run_coroutine import run
    from gglib_nb.notebook.activity import get_manager
    from gglib_nb.notebook.panel import Panel
    from gglib_nb.settings import DownloadManagerConfig

_FOUND_IN: Final = {
    "gglib_nb.domain.download": (
        "DownloadRequest",
        "DownloadStatus",
        "HostProgress",
        "QueueRunSummary",
        "QueueSnapshot",
        "QueuedDownload",
        "RunItem",
        "ShardProgress",
        "ShardStatus",
    ),
    "gglib_nb.domain.events": (
        "DownloadCancelled",
        "DownloadCompleted",
        "DownloadFailed",
        "DownloadProgressed",
        "DownloadStarted",
        "NoticeChanged",
        "QueueEvent",
        "RunSummarized",
        "ShardProgressed",
        "SnapshotChanged",
        "StatusChanged",
    ),
    "gglib_nb.domain.importing": ("ImportProgress", "ImportReport", "SkippedFile"),
    "gglib_nb.domain.library": (
        "CheckedFile",
        "Deletion",
        "DiskUse",
        "FileChange",
        "KeptFile",
        "ModelUpdate",
        "QueuedUpdate",
        "Repair",
        "Verification",
        "VerifyProgress",
    ),
    "gglib_nb.domain.history": ("PastDownload",),
    "gglib_nb.domain.fit": ("Gpu", "MachineMemory", "Placement"),
    "gglib_nb.domain.memory": ("MemoryEstimate",),
    "gglib_nb.domain.model": ("Model",),
    "gglib_nb.domain.plan": ("PlannedCompanion", "RepoPlan", "VariantPlan"),
    "gglib_nb.domain.presets": ("PresetFile",),
    "gglib_nb.domain.model_summary": ("ModelSummary",),
    "gglib_nb.domain.quantization": ("Quantization",),
    "gglib_nb.domain.references": ("DownloadId",),
    "gglib_nb.domain.variants": ("Variant", "Variants", "variants_of"),
    "gglib_nb.settings": ("DownloadManagerConfig",),
    "gglib_nb.manager.operations": ("FinishedDownload", "SmartQueueResult"),
    "gglib_nb.manager.manager": ("DownloadManager",),
    "gglib_nb.manager.run_coroutine": ("run",),
    "gglib_nb.notebook.activity": ("get_manager",),
    "gglib_nb.notebook.panel": ("Panel",),
}
_MODULE_OF: Final = {name: module for module, names in _FOUND_IN.items() for name in names}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the attribute's own type, told to checkers above
    if name == "__version__":
        from importlib.metadata import version

        return version("gglib-nb")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    # What is promised and nothing else: modules and names of the inside are no business of Tab.
    return sorted({"__version__", *__all__})


async def download(
    repo_id: str,
    quantization: str | None = None,
    *,
    revision: str | None = None,
    force: bool = False,
    companions: tuple[str, ...] = (),
    everywhere: bool = False,
    progress: "Progress" = None,
) -> "Path":
    """Downloads a model with this kernel's manager; the path that a program opens: the first shard's.

    Meanwhile the cell that waits shows how it goes, as does a terminal on standard error; elsewhere one line a minute does.

    Cancelling the awaiter does not cancel the download: `%gguf cancel` does.

    Args:
        repo_id: `owner/name` on the Hub.
        quantization: Label, file name or key of the variant, in any case; None lets the rule choose.
        revision: Branch, tag or commit; None is the default branch.
        force: Fetch again although the file is there.
        companions: Kinds of companion files to fetch along, such as `("mmproj",)`.
        everywhere: On a cluster, fetch a copy for every host's own folder.
        progress: False shows nothing; a callable gets the download whenever something changed, on a thread of its own.

    Raises:
        GglibError: What went wrong, and what to do next.
    """
    from gglib_nb.notebook.activity import get_manager

    try:
        return await get_manager().download(
            repo_id,
            quantization,
            revision=revision,
            force=force,
            companions=companions,
            everywhere=everywhere,
            progress=progress,
        )
    except GglibError as error:
        raise error.with_traceback(None) from None  # whose line it was says enough


def path(text: str) -> "Path":
    """The file of a model that is here, as a program opens it: its first shard. Asks nobody and starts nothing.

        llm = llama_cpp.Llama(str(gglib_nb.path("owner/repo:Q4_K_M")))

    Args:
        text: The model's id, or what of it is unique here: the repository, a part of the id.

    Raises:
        ModelNotFoundError: No model answers to it, or its file is gone; the text names near ones.
        AmbiguousQuantizationError: Several do; `choices` has their ids.
        CatalogError: The models database cannot be read.
    """
    from gglib_nb.manager.calls import public_error
    from gglib_nb.manager.default_manager import catalog, stored_models
    from gglib_nb.manager.model_operations import path_of

    try:
        return path_of(catalog(), text, stored_models)
    except GglibError as error:
        raise public_error(error) from None


def load_ipython_extension(shell: "InteractiveShell") -> None:
    """`%load_ext gglib_nb`: registers `%gguf`. Starts nothing and prints nothing.

    Raises:
        UsageError: This Python runs in a browser (JupyterLite), where no process can be started.
    """
    if sys.platform == "emscripten":
        from IPython.core.error import UsageError

        raise UsageError(
            "gglib_nb downloads in a process of its own, and JupyterLite has no processes; use a Jupyter server, Colab or VS Code."
        )
    from gglib_nb.notebook import magic

    magic.load(shell)


def unload_ipython_extension(shell: "InteractiveShell") -> None:
    """`%unload_ext gglib_nb`: puts back exactly what was there. Downloads go on."""
    from gglib_nb.notebook import magic

    magic.unload(shell)


__all__ = [
    "AlreadyQueuedError",
    "AmbiguousQuantizationError",
    "CatalogDamagedError",
    "CatalogError",
    "CertificateError",
    "CheckedFile",
    "ClusterError",
    "Deletion",
    "DiskFullError",
    "DiskUse",
    "DownloadCancelled",
    "DownloadCancelledError",
    "DownloadCompleted",
    "DownloadFailed",
    "DownloadId",
    "DownloadInterruptedError",
    "DownloadManager",
    "DownloadManagerConfig",
    "DownloadProgressed",
    "DownloadRequest",
    "DownloadStarted",
    "DownloadStatus",
    "DownloadsFailedError",
    "EngineLostError",
    "FileChange",
    "FinishedDownload",
    "GatedRepoError",
    "GglibError",
    "GgufError",
    "Gpu",
    "HostProgress",
    "HubError",
    "HubUnavailableError",
    "ImportProgress",
    "ImportReport",
    "IncompleteShardSetError",
    "IntegrityError",
    "InvalidConfigError",
    "InvalidQuantizationError",
    "InvalidRepoIdError",
    "InvalidTokenError",
    "KeptFile",
    "MachineMemory",
    "ManagerClosedError",
    "MemoryEstimate",
    "Model",
    "ModelNotFoundError",
    "ModelSummary",
    "ModelUpdate",
    "NetworkError",
    "NoGgufFilesError",
    "NotInQueueError",
    "NoticeChanged",
    "OfflineError",
    "Panel",
    "PastDownload",
    "Placement",
    "PlannedCompanion",
    "PresetFile",
    "ProxyError",
    "Quantization",
    "QueueError",
    "QueueEvent",
    "QueueFullError",
    "QueueRunSummary",
    "QueueSnapshot",
    "QueuedDownload",
    "QueuedUpdate",
    "RateLimitedError",
    "RemoteChangedError",
    "Repair",
    "RepoNotFoundError",
    "RepoPlan",
    "RequestError",
    "RevisionNotFoundError",
    "RunItem",
    "RunSummarized",
    "ShardProgress",
    "ShardProgressed",
    "ShardStatus",
    "SkippedFile",
    "SmartQueueResult",
    "SnapshotChanged",
    "StalledError",
    "StatusChanged",
    "StorageError",
    "TransferError",
    "Variant",
    "VariantPlan",
    "Variants",
    "Verification",
    "VerifyProgress",
    "download",
    "get_manager",
    "load_ipython_extension",
    "path",
    "run",
    "unload_ipython_extension",
    "variants_of",
]
