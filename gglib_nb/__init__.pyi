# The types of what `gglib_nb` promises; a test compares the names with those of `__init__.py`.
from IPython.core.interactiveshell import InteractiveShell

from gglib_nb.domain.companions import (
    Companion as Companion,
)
from gglib_nb.domain.download import (
    DownloadRequest as DownloadRequest,
)
from gglib_nb.domain.download import (
    DownloadStatus as DownloadStatus,
)
from gglib_nb.domain.download import (
    ElsewhereDownload as ElsewhereDownload,
)
from gglib_nb.domain.download import (
    HostFolder as HostFolder,
)
from gglib_nb.domain.download import (
    HostProgress as HostProgress,
)
from gglib_nb.domain.download import (
    QueuedDownload as QueuedDownload,
)
from gglib_nb.domain.download import (
    QueueNotice as QueueNotice,
)
from gglib_nb.domain.download import (
    QueueRunSummary as QueueRunSummary,
)
from gglib_nb.domain.download import (
    QueueSnapshot as QueueSnapshot,
)
from gglib_nb.domain.download import (
    RunItem as RunItem,
)
from gglib_nb.domain.download import (
    ShardProgress as ShardProgress,
)
from gglib_nb.domain.download import (
    ShardStatus as ShardStatus,
)
from gglib_nb.domain.download import (
    StoredFile as StoredFile,
)
from gglib_nb.domain.events import (
    DownloadCancelled as DownloadCancelled,
)
from gglib_nb.domain.events import (
    DownloadCompleted as DownloadCompleted,
)
from gglib_nb.domain.events import (
    DownloadFailed as DownloadFailed,
)
from gglib_nb.domain.events import (
    DownloadProgressed as DownloadProgressed,
)
from gglib_nb.domain.events import (
    DownloadStarted as DownloadStarted,
)
from gglib_nb.domain.events import (
    NoticeChanged as NoticeChanged,
)
from gglib_nb.domain.events import (
    QueueEvent as QueueEvent,
)
from gglib_nb.domain.events import (
    RunSummarized as RunSummarized,
)
from gglib_nb.domain.events import (
    ShardProgressed as ShardProgressed,
)
from gglib_nb.domain.events import (
    SnapshotChanged as SnapshotChanged,
)
from gglib_nb.domain.events import (
    StatusChanged as StatusChanged,
)
from gglib_nb.domain.fit import (
    Gpu as Gpu,
)
from gglib_nb.domain.fit import (
    MachineMemory as MachineMemory,
)
from gglib_nb.domain.fit import (
    Placement as Placement,
)
from gglib_nb.domain.history import (
    PastDownload as PastDownload,
)
from gglib_nb.domain.hours import (
    DailyHours as DailyHours,
)
from gglib_nb.domain.importing import (
    ImportProgress as ImportProgress,
)
from gglib_nb.domain.importing import (
    ImportReport as ImportReport,
)
from gglib_nb.domain.importing import (
    SkippedFile as SkippedFile,
)
from gglib_nb.domain.inspection import (
    Comparison as Comparison,
)
from gglib_nb.domain.inspection import (
    Inspection as Inspection,
)
from gglib_nb.domain.inspection import (
    KeyDifference as KeyDifference,
)
from gglib_nb.domain.inspection import (
    TensorGroup as TensorGroup,
)
from gglib_nb.domain.library import (
    CheckedFile as CheckedFile,
)
from gglib_nb.domain.library import (
    Deletion as Deletion,
)
from gglib_nb.domain.library import (
    DiskUse as DiskUse,
)
from gglib_nb.domain.library import (
    FileChange as FileChange,
)
from gglib_nb.domain.library import (
    KeptFile as KeptFile,
)
from gglib_nb.domain.library import (
    ModelUpdate as ModelUpdate,
)
from gglib_nb.domain.library import (
    QueuedUpdate as QueuedUpdate,
)
from gglib_nb.domain.library import (
    Repair as Repair,
)
from gglib_nb.domain.library import (
    Verification as Verification,
)
from gglib_nb.domain.library import (
    VerifyProgress as VerifyProgress,
)
from gglib_nb.domain.listing import (
    RepoSummary as RepoSummary,
)
from gglib_nb.domain.memory import (
    MemoryEstimate as MemoryEstimate,
)
from gglib_nb.domain.model import (
    Model as Model,
)
from gglib_nb.domain.model_summary import (
    ModelSummary as ModelSummary,
)
from gglib_nb.domain.plan import (
    PlannedCompanion as PlannedCompanion,
)
from gglib_nb.domain.plan import (
    RepoPlan as RepoPlan,
)
from gglib_nb.domain.plan import (
    VariantPlan as VariantPlan,
)
from gglib_nb.domain.presets import (
    PresetFile as PresetFile,
)
from gglib_nb.domain.pruning import (
    ModelUse as ModelUse,
)
from gglib_nb.domain.pruning import (
    PrunePlan as PrunePlan,
)
from gglib_nb.domain.pruning import (
    UnfinishedDownload as UnfinishedDownload,
)
from gglib_nb.domain.quantization import (
    Quantization as Quantization,
)
from gglib_nb.domain.references import (
    DownloadId as DownloadId,
)
from gglib_nb.domain.stored_queue import (
    Adoption as Adoption,
)
from gglib_nb.domain.variants import (
    Variant as Variant,
)
from gglib_nb.domain.variants import (
    Variants as Variants,
)
from gglib_nb.domain.variants import (
    variants_of as variants_of,
)
from gglib_nb.engine.local import (
    Leftover as Leftover,
)
from gglib_nb.errors import (
    AlreadyQueuedError as AlreadyQueuedError,
)
from gglib_nb.errors import (
    AmbiguousQuantizationError as AmbiguousQuantizationError,
)
from gglib_nb.errors import (
    CatalogDamagedError as CatalogDamagedError,
)
from gglib_nb.errors import (
    CatalogError as CatalogError,
)
from gglib_nb.errors import (
    CertificateError as CertificateError,
)
from gglib_nb.errors import (
    ClusterError as ClusterError,
)
from gglib_nb.errors import (
    DiskFullError as DiskFullError,
)
from gglib_nb.errors import (
    DownloadCancelledError as DownloadCancelledError,
)
from gglib_nb.errors import (
    DownloadInterruptedError as DownloadInterruptedError,
)
from gglib_nb.errors import (
    DownloadsFailedError as DownloadsFailedError,
)
from gglib_nb.errors import (
    EngineLostError as EngineLostError,
)
from gglib_nb.errors import (
    GatedRepoError as GatedRepoError,
)
from gglib_nb.errors import (
    GglibError as GglibError,
)
from gglib_nb.errors import (
    GgufError as GgufError,
)
from gglib_nb.errors import (
    HubError as HubError,
)
from gglib_nb.errors import (
    HubUnavailableError as HubUnavailableError,
)
from gglib_nb.errors import (
    IncompleteShardSetError as IncompleteShardSetError,
)
from gglib_nb.errors import (
    IntegrityError as IntegrityError,
)
from gglib_nb.errors import (
    InvalidConfigError as InvalidConfigError,
)
from gglib_nb.errors import (
    InvalidQuantizationError as InvalidQuantizationError,
)
from gglib_nb.errors import (
    InvalidRepoIdError as InvalidRepoIdError,
)
from gglib_nb.errors import (
    InvalidTokenError as InvalidTokenError,
)
from gglib_nb.errors import (
    ManagerClosedError as ManagerClosedError,
)
from gglib_nb.errors import (
    ModelNotFoundError as ModelNotFoundError,
)
from gglib_nb.errors import (
    NetworkError as NetworkError,
)
from gglib_nb.errors import (
    NoGgufFilesError as NoGgufFilesError,
)
from gglib_nb.errors import (
    NotInQueueError as NotInQueueError,
)
from gglib_nb.errors import (
    OfflineError as OfflineError,
)
from gglib_nb.errors import (
    ProxyError as ProxyError,
)
from gglib_nb.errors import (
    QueueError as QueueError,
)
from gglib_nb.errors import (
    QueueFullError as QueueFullError,
)
from gglib_nb.errors import (
    RateLimitedError as RateLimitedError,
)
from gglib_nb.errors import (
    RemoteChangedError as RemoteChangedError,
)
from gglib_nb.errors import (
    RepoNotFoundError as RepoNotFoundError,
)
from gglib_nb.errors import (
    RequestError as RequestError,
)
from gglib_nb.errors import (
    RevisionNotFoundError as RevisionNotFoundError,
)
from gglib_nb.errors import (
    StalledError as StalledError,
)
from gglib_nb.errors import (
    StorageError as StorageError,
)
from gglib_nb.errors import (
    TransferError as TransferError,
)
from gglib_nb.manager.bundles import (
    BundleProgress as BundleProgress,
)
from gglib_nb.manager.bundles import (
    BundleReport as BundleReport,
)
from gglib_nb.manager.manager import (
    DownloadManager as DownloadManager,
)
from gglib_nb.manager.manager import (
    SyncOperations as SyncOperations,
)
from gglib_nb.manager.manager import (
    run as run,
)
from gglib_nb.manager.operations import (
    FinishedDownload as FinishedDownload,
)
from gglib_nb.manager.operations import (
    SmartQueueResult as SmartQueueResult,
)
from gglib_nb.manager.operations import (
    SyncHandle as SyncHandle,
)
from gglib_nb.notebook.activity import (
    get_manager as get_manager,
)
from gglib_nb.notebook.panel import (
    Panel as Panel,
)
from gglib_nb.notebook.shortcuts import (
    download as download,
)
from gglib_nb.notebook.shortcuts import (
    download_sync as download_sync,
)
from gglib_nb.notebook.shortcuts import (
    path as path,
)
from gglib_nb.settings import (
    DownloadManagerConfig as DownloadManagerConfig,
)

__version__: str

def load_ipython_extension(shell: InteractiveShell) -> None: ...
def unload_ipython_extension(shell: InteractiveShell) -> None: ...
