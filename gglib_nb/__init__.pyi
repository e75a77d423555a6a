# The names that `gglib_nb` promises, their types, and the modules that `__init__.py` loads them from.
# fmt: off
# ruff: noqa: I001
from IPython.core.interactiveshell import InteractiveShell

from gglib_nb.domain.companions import Companion as Companion
from gglib_nb.domain.download import (
    DownloadRequest as DownloadRequest, DownloadStatus as DownloadStatus, HostFolder as HostFolder,
    HostProgress as HostProgress, ShardStatus as ShardStatus, StoredFile as StoredFile,
)
from gglib_nb.domain.snapshot import (
    ElsewhereDownload as ElsewhereDownload, QueueNotice as QueueNotice, QueueRunSummary as QueueRunSummary,
    QueueSnapshot as QueueSnapshot, QueuedDownload as QueuedDownload, ShardProgress as ShardProgress, Then as Then,
    DownloadCancelled as DownloadCancelled, DownloadCompleted as DownloadCompleted,
    DownloadFailed as DownloadFailed, DownloadProgressed as DownloadProgressed, DownloadStarted as DownloadStarted,
    NoticeChanged as NoticeChanged, QueueEvent as QueueEvent, RunSummarized as RunSummarized,
    ShardProgressed as ShardProgressed, SnapshotChanged as SnapshotChanged, StatusChanged as StatusChanged,
    ThenChanged as ThenChanged,
)
from gglib_nb.domain.fit import Gpu as Gpu, MachineMemory as MachineMemory, Placement as Placement
from gglib_nb.domain.stored import PastDownload as PastDownload
from gglib_nb.domain.units import DailyHours as DailyHours
from gglib_nb.domain.importing import ImportReport as ImportReport
from gglib_nb.domain.inspection import (
    Comparison as Comparison, Inspection as Inspection, KeyDifference as KeyDifference, TensorGroup as TensorGroup,
)
from gglib_nb.domain.library import (
    CheckedFile as CheckedFile, Deletion as Deletion, DiskUse as DiskUse, FileChange as FileChange,
    SkippedFile as SkippedFile, ModelUpdate as ModelUpdate, QueuedUpdate as QueuedUpdate, Repair as Repair,
    Verification as Verification, WorkProgress as WorkProgress,
)
from gglib_nb.domain.plan import RepoSummary as RepoSummary
from gglib_nb.domain.memory import MemoryEstimate as MemoryEstimate
from gglib_nb.domain.model import Model as Model
from gglib_nb.domain.model import ModelSummary as ModelSummary
from gglib_nb.domain.plan import RepoPlan as RepoPlan, VariantPlan as VariantPlan
from gglib_nb.domain.loading import PresetFile as PresetFile
from gglib_nb.domain.library import (
    Leftover as Leftover, ModelUse as ModelUse, PrunePlan as PrunePlan,
)
from gglib_nb.domain.quality import Quality as Quality
from gglib_nb.domain.names import DownloadId as DownloadId, Quantization as Quantization
from gglib_nb.domain.stored import Adoption as Adoption
from gglib_nb.domain.variants import Variant as Variant, Variants as Variants, variants_of as variants_of
from gglib_nb.errors import (
    AlreadyQueuedError as AlreadyQueuedError, AmbiguousQuantizationError as AmbiguousQuantizationError,
    CatalogDamagedError as CatalogDamagedError, CatalogError as CatalogError, CertificateError as CertificateError,
    ClusterError as ClusterError, DiskFullError as DiskFullError, DownloadCancelledError as DownloadCancelledError,
    DownloadInterruptedError as DownloadInterruptedError, DownloadsFailedError as DownloadsFailedError,
    EngineLostError as EngineLostError, GatedRepoError as GatedRepoError, GglibError as GglibError,
    GgufError as GgufError, HubError as HubError, HubUnavailableError as HubUnavailableError,
    IncompleteShardSetError as IncompleteShardSetError, IntegrityError as IntegrityError,
    InvalidConfigError as InvalidConfigError, InvalidQuantizationError as InvalidQuantizationError,
    InvalidRepoIdError as InvalidRepoIdError, InvalidTokenError as InvalidTokenError,
    ManagerClosedError as ManagerClosedError, ModelNotFoundError as ModelNotFoundError,
    NetworkError as NetworkError, NoGgufFilesError as NoGgufFilesError, NotInQueueError as NotInQueueError,
    OfflineError as OfflineError, ProxyError as ProxyError, QueueError as QueueError,
    QueueFullError as QueueFullError, RateLimitedError as RateLimitedError,
    RemoteChangedError as RemoteChangedError, RepoNotFoundError as RepoNotFoundError, RequestError as RequestError,
    RevisionNotFoundError as RevisionNotFoundError, StalledError as StalledError, StorageError as StorageError,
    TransferError as TransferError,
)
from gglib_nb.manager.bundles import BundleReport as BundleReport
from gglib_nb.manager.manager import DownloadManager as DownloadManager, SyncOperations as SyncOperations, run as run
from gglib_nb.manager.operations import (
    FinishedDownload as FinishedDownload, SmartQueueResult as SmartQueueResult, SyncHandle as SyncHandle,
)
from gglib_nb.notebook.shortcuts import get_manager as get_manager
from gglib_nb.notebook.panel import Panel as Panel
from gglib_nb.notebook.shortcuts import download as download, download_sync as download_sync, path as path
from gglib_nb.settings import DownloadManagerConfig as DownloadManagerConfig

__version__: str

def load_ipython_extension(shell: InteractiveShell) -> None: ...
def unload_ipython_extension(shell: InteractiveShell) -> None: ...
