"""GGUF models from the Hugging Face Hub, in a notebook.

    %load_ext gglib_nb
    %gguf queue owner/repo:Q4_K_M          # in any cell; the queue runs while other cells run
    %gguf                                  # the panel
    path = await gglib_nb.download("owner/repo", "Q4_K_M")

In a script, `gglib_nb.download_sync` does the same without a loop.

The package, from the ground up: `errors` and `domain` are values and rules; `queue` is the queue as a pure state machine; `hub`,
`engine`, `catalog` and `settings` are the network, the process that downloads, the database and the settings; `manager` has the
operations; `notebook` is what a user sees. `demo` is a hub of its own on loopback. What is listed in `__all__` is promised, the
rest is not. Types are in `__init__.pyi`.

Importing this costs next to nothing: everything below is imported when it is first used.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_FOUND_IN: Final = {
    "gglib_nb.domain.companions": "Companion",
    "gglib_nb.domain.download": (
        "DownloadRequest DownloadStatus ElsewhereDownload HostFolder HostProgress QueueNotice QueueRunSummary "
        "QueueSnapshot QueuedDownload RunItem ShardProgress ShardStatus StoredFile"
    ),
    "gglib_nb.domain.events": (
        "DownloadCancelled DownloadCompleted DownloadFailed DownloadProgressed DownloadStarted NoticeChanged "
        "QueueEvent RunSummarized ShardProgressed SnapshotChanged StatusChanged"
    ),
    "gglib_nb.domain.fit": "Gpu MachineMemory Placement",
    "gglib_nb.domain.history": "PastDownload",
    "gglib_nb.domain.hours": "DailyHours",
    "gglib_nb.domain.importing": "ImportProgress ImportReport SkippedFile",
    "gglib_nb.domain.inspection": "Comparison Inspection KeyDifference TensorGroup",
    "gglib_nb.domain.library": (
        "CheckedFile Deletion DiskUse FileChange KeptFile ModelUpdate QueuedUpdate Repair Verification VerifyProgress"
    ),
    "gglib_nb.domain.listing": "RepoSummary",
    "gglib_nb.domain.memory": "MemoryEstimate",
    "gglib_nb.domain.model": "Model",
    "gglib_nb.domain.model_summary": "ModelSummary",
    "gglib_nb.domain.plan": "PlannedCompanion RepoPlan VariantPlan",
    "gglib_nb.domain.presets": "PresetFile",
    "gglib_nb.domain.pruning": "ModelUse PrunePlan UnfinishedDownload",
    "gglib_nb.domain.quantization": "Quantization",
    "gglib_nb.domain.references": "DownloadId",
    "gglib_nb.domain.stored_queue": "Adoption",
    "gglib_nb.domain.variants": "Variant Variants variants_of",
    "gglib_nb.engine.local": "Leftover",
    "gglib_nb.errors": (
        "AlreadyQueuedError AmbiguousQuantizationError CatalogDamagedError CatalogError CertificateError "
        "ClusterError DiskFullError DownloadCancelledError DownloadInterruptedError DownloadsFailedError "
        "EngineLostError GatedRepoError GglibError GgufError HubError HubUnavailableError "
        "IncompleteShardSetError IntegrityError InvalidConfigError InvalidQuantizationError "
        "InvalidRepoIdError InvalidTokenError ManagerClosedError ModelNotFoundError NetworkError "
        "NoGgufFilesError NotInQueueError OfflineError ProxyError QueueError QueueFullError RateLimitedError "
        "RemoteChangedError RepoNotFoundError RequestError RevisionNotFoundError StalledError StorageError "
        "TransferError"
    ),
    "gglib_nb.manager.bundles": "BundleProgress BundleReport",
    "gglib_nb.manager.manager": "DownloadManager SyncOperations run",
    "gglib_nb.manager.operations": "FinishedDownload SmartQueueResult SyncHandle",
    "gglib_nb.notebook.activity": "get_manager",
    "gglib_nb.notebook.panel": "Panel",
    "gglib_nb.notebook.shortcuts": "download download_sync path",
    "gglib_nb.settings": "DownloadManagerConfig",
}
_MODULE_OF: Final = {name: module for module, names in _FOUND_IN.items() for name in names.split()}

__all__ = ["load_ipython_extension", "unload_ipython_extension", *_MODULE_OF]  # noqa: PLE0604 - a table of texts


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the attribute's own type is in the stub
    if name == "__version__":
        from importlib.metadata import version

        return version("gglib-nb")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    # What is promised and nothing else, for Tab.
    return sorted({"__version__", *__all__})


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
    import_module("gglib_nb.notebook.magic").load(shell)


def unload_ipython_extension(shell: "InteractiveShell") -> None:
    """`%unload_ext gglib_nb`: restores what was there before. Downloads continue."""
    import_module("gglib_nb.notebook.magic").unload(shell)
