"""Every error gglib_nb raises, one class per decision a caller can take.

The message says what happened and what to do next; the attributes are plain values, for programs. Between engine and
kernel errors are plain dictionaries: `to_wire` and `from_wire`.
"""

from typing import Any, TypeVar

_Error = TypeVar("_Error", bound=BaseException)


class GglibError(Exception):
    """Base of all errors of this package. Its text is for the user."""


class RequestError(GglibError):
    """The request cannot be carried out as it is; the queue is unchanged."""


class InvalidRepoIdError(RequestError):
    """A repository's id is not of the form `owner/name`."""


class _ChoiceError(RequestError):
    """A request that names no single variant; `choices` has the possible ones as a user types them, the best first."""

    def __init__(self, message: str, choices: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.choices = tuple(choices)


class InvalidQuantizationError(_ChoiceError):
    """No variant of the repository matches the request; `choices` has the variants, the best first."""


class AmbiguousQuantizationError(_ChoiceError):
    """Several variants match the request, or no rule decides; `choices` has them, the best first."""


class NoGgufFilesError(RequestError):
    """The repository has no model in GGUF at this revision; `alternatives` has repositories made of it that do."""

    def __init__(self, message: str, alternatives: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.alternatives = tuple(alternatives)


class IncompleteShardSetError(RequestError):
    """A split model lacks files on the Hub, so no program could load it; `missing` has their 1-based numbers."""

    def __init__(self, message: str, missing: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)


class InvalidConfigError(RequestError):
    """A setting or an argument has a value that cannot work."""


class ProxyError(InvalidConfigError):
    """A proxy refuses the connection; the text says which setting to change."""


class CertificateError(InvalidConfigError):
    """The TLS certificate of a host, or of a proxy, is not trusted; the text says what to check."""


class QueueError(GglibError):
    """The queue refused; it is as it was before."""


class QueueFullError(QueueError):
    """The queue has as many pending downloads as it may: `max_size`."""

    def __init__(self, message: str, max_size: int = 0) -> None:
        super().__init__(message)
        self.max_size = max_size


class AlreadyQueuedError(QueueError):
    """Another live download, `other_id`, is the same one, or writes the same file."""

    def __init__(self, message: str, other_id: str = "") -> None:
        super().__init__(message)
        self.other_id = other_id


class NotInQueueError(QueueError):
    """No download of that id is in the place that was searched; the text names the operation that fits."""


class DownloadCancelledError(QueueError):
    """Raised by waiting for a cancelled download."""


class ManagerClosedError(QueueError):
    """The manager was closed, or this process is a fork of the one that owns it."""


class HubError(GglibError):
    """The Hub refused the request or did not answer."""


class RepoNotFoundError(HubError):
    """No such repository, or it is private and the token gives no access."""


class RevisionNotFoundError(HubError):
    """The repository has no such branch, tag or commit."""


class GatedRepoError(HubError):
    """The repository is gated, and access has not been granted; `accept_url` is the page on which to request it.

    `state` is `login` (a token is needed first), `not requested` (its terms have to be accepted), `pending` (its
    authors have not answered the request) or `rejected`.
    """

    def __init__(self, message: str, accept_url: str = "", state: str = "not requested") -> None:
        super().__init__(message)
        self.accept_url = accept_url
        self.state = state


class InvalidTokenError(HubError):
    """The Hub does not accept the token."""


class RateLimitedError(HubError):
    """The Hub asks to wait `retry_after_s` seconds; None: it does not say how long."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class HubUnavailableError(HubError):
    """The Hub or its CDN failed, or sent an unusable answer; trying later can help."""


class OfflineError(HubError):
    """Offline mode is on (`HF_HUB_OFFLINE`), so no request was sent."""


class TransferError(GglibError):
    """The transfer failed; correct bytes on the disk are kept."""


class NetworkError(TransferError):
    """The connection kept failing; a retry continues where it stopped."""


class StalledError(TransferError):
    """The connection stayed open without data; a retry continues where it stopped."""


class IntegrityError(TransferError):
    """The file's SHA-256 (`actual`) is not the one that the Hub states (`expected`); the file was deleted."""

    def __init__(self, message: str, expected: str = "", actual: str = "") -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class RemoteChangedError(TransferError):
    """The Hub serves another file under this name and commit than it listed."""


class DiskFullError(TransferError):
    """The filesystem of the models folder is full; downloaded bytes are kept.

    `needed_bytes` are still to be written, `free_bytes` are free on that filesystem; None: unknown.
    """

    def __init__(self, message: str, needed_bytes: int | None = None, free_bytes: int | None = None) -> None:
        super().__init__(message)
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class StorageError(TransferError):
    """The models folder cannot be read or written, for another reason than a full disk."""


class EngineLostError(TransferError):
    """The engine process ended several times without a new byte."""


class ClusterError(TransferError):
    """The Dask cluster that should run the downloads cannot be used; the text says why, and what helps."""


class DownloadInterruptedError(TransferError):
    """The transfer was stopped because the manager closed; the partial file is kept."""


class DownloadsFailedError(TransferError):
    """Some of the awaited downloads, `ids`, failed; each keeps its own error in the failures."""

    def __init__(self, message: str, ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.ids = tuple(ids)


class GgufError(GglibError):
    """These bytes are not a GGUF header that can be read; the text names what is wrong."""


class CatalogError(GglibError):
    """The models database cannot be read or written."""


class CatalogDamagedError(CatalogError):
    """The file is no database, or damaged; it is kept under another name, and the next use creates a new one."""


class ModelNotFoundError(CatalogError):
    """No registered model matches the id."""


def copy_of(error: _Error) -> _Error:
    """An error of the same class, text and attributes, without traceback and cause, to show or raise a kept one again.

    Not `copy.copy`: with tblib installed, as with Dask, the copy of an exception shares its attributes.
    """
    copy = type(error).__new__(type(error))
    copy.args = error.args
    vars(copy).update(vars(error))
    return copy


def to_wire(error: GglibError) -> dict[str, Any]:
    """The error as plain values: `code` (its class), `message`, and its attributes under `fields`."""
    fields = {name: value for name, value in vars(error).items() if not name.startswith("_")}  # `__notes__` stay here
    return {"code": type(error).__name__, "message": str(error), "fields": fields}


def from_wire(data: dict[str, Any]) -> GglibError:
    """The error that `to_wire` described; an unknown class becomes a plain `GglibError`."""
    kind = globals().get(data["code"])
    if not isinstance(kind, type) or not issubclass(kind, GglibError):
        kind = GglibError
    fields = data.get("fields", {}) if kind.__init__ is not Exception.__init__ else {}
    return kind(data["message"], **fields)
