"""From a request to a plan: the commit, the variant, the files, and the place of each.

Asks the Hub and the catalog, so it runs on a worker thread; changes nothing.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from gglib_nb.catalog.store import known_files
from gglib_nb.domain.choosing import choose, finding_of
from gglib_nb.domain.companions import COMPANION_KINDS
from gglib_nb.domain.download import DownloadRequest, PlannedDownload, PlannedFile, StoredFile, sizes_by_target
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import DownloadId, check_length, modelscope_name, parse_path, target_path
from gglib_nb.domain.plan import BAD_FINDINGS, RepoListing
from gglib_nb.domain.variants import Variant, Variants, companion_for, variants_of
from gglib_nb.errors import GglibError, HubUnavailableError, NoGgufFilesError, RequestError
from gglib_nb.hub.client import HubClient
from gglib_nb.manager.hardware import memory_for
from gglib_nb.settings import absolute_path
from gglib_nb.system import LONGEST_PATH_CHARACTERS

if TYPE_CHECKING:
    from gglib_nb.manager.manager import Parts

_MOST_CHILDREN: Final = 5
# "error": the scan failed.
_NO_FINDING: Final = frozenset({"safe", "unscanned", "queued", "scanning", "pending", "error"})
_MOST_DONORS: Final = 32
_MOST_FILES: Final = 10_000  # the largest sets have 1,800 shards, and each costs a row, a journal and a lease


def plan_download(
    parts: "Parts", request: DownloadRequest, models: Sequence[Model], without: str = "Leave out --with."
) -> PlannedDownload:
    """The plan for a request; one of the registered `models` is downloaded to its own folder again.

    `without` advises what to do if the repository has no such companion.

    Raises `HubError`, and `RequestError` if it names no variant or several, or another folder than the model's.
    """
    hub, models_directory = parts.hub, parts.config.models_directory
    with pointing_to_children(hub, request.repo_id):
        listing = hub.list_files(request.repo_id, request.revision)
        variants = variants_of((file.path, file.size_bytes) for file in listing.files)
        is_named = bool((request.quantization or "").strip())
        memory_bytes = None if is_named else memory_for(one.size_bytes for one in variants.offered)
        wanted = partial(choose, variants, request.quantization, memory_bytes, repository=listing.repo_id)
        choice = wanted()
        findings = scan_findings(hub, listing, [choice.variant])
        if not is_named and finding_of(choice.variant, findings) in BAD_FINDINGS:
            findings |= scan_findings(hub, listing, variants.variants)
            choice = wanted(findings=findings)
    if listing.gate is not None:
        hub.check_access(listing)
    variant = choice.variant
    id_ = DownloadId(listing.repo_id, variant.key, request.revision)
    folder = models_directory if request.to is None else Path(request.to)
    home = folder_of(id_, models, models_directory)
    if home is not None and folder != home:
        if request.to is not None:
            raise RequestError(
                f"{id_} is already stored in {home}. To store it in {folder}, delete it first: %gguf delete {id_.typed}"
            )
        folder = home
    companions = _companions(request, listing, variants, variant, folder, without)
    files = (*shard_files(folder, listing, variant), *companions)
    of_commit = [one for one in models if one.commit_sha == listing.commit_sha]
    donors = () if request.force else registered_donors([*models, *parts.stores.models()], variant.files[0])
    return PlannedDownload(
        id=id_,
        commit_sha=listing.commit_sha,
        label=variant.quantization,
        files=tuple(_with_known_times(files, known_files(models), known_files(of_commit))),
        reason="" if is_named else choice.why,
        force=request.force,
        add_to_db=request.add_to_db,
        companions=request.companions,
        everywhere=request.everywhere,
        then=request.then if isinstance(request.then, str) else None,
        to=None if folder == models_directory else str(folder),
        donors=donors,
        scan_finding=finding_of(variant, findings),
    )


def given_path(given: str | os.PathLike[str], what: str = "folder") -> Path:
    """The absolute path of a folder, or of `what` a user named; a `RequestError` if empty or its `~` is unknown."""
    path = absolute_path(f"The {what}", given, what)
    try:
        return path.resolve() if ".." in path.parts else path
    except (OSError, RuntimeError):  # a loop of links
        raise RequestError(f"The {what} {str(path)!r} cannot be found. Write its absolute path.") from None


def scan_findings(hub: HubClient, listing: RepoListing, variants: Iterable[Variant]) -> dict[str, str]:
    """The files of variants that the Hub's scan does not call safe, with its verdicts; none without a scan."""
    paths = [path for variant in variants for path in variant.files]
    states = hub.scan_states(listing.repo_id, listing.commit_sha, paths)
    return {path: state for path, state in states.items() if state not in _NO_FINDING}


def folder_of(id_: DownloadId, models: Iterable[Model], models_directory: Path) -> Path | None:
    """The folder to which a registered model was downloaded, and is again; None: there is no such model."""
    found = (model for model in models if model.id == id_ and model.origin == "hub" and not model.hosts)
    return next((home_of(model, models_directory) for model in found), None)


def home_of(model: Model, models_directory: Path) -> Path:
    """The folder that a model was downloaded to: the models folder, unless another one was requested."""
    is_elsewhere = model.origin == "hub" and not model.hosts and bool(model.paths)
    if is_elsewhere and not (path := Path(model.paths[0])).is_relative_to(models_directory):
        for folder in path.parents:
            if folder.match(model.id.repo_id):
                return folder.parent.parent
    return models_directory


def _companions(
    request: DownloadRequest, listing: RepoListing, variants: Variants, variant: Variant, folder: Path, without: str
) -> list[PlannedFile]:
    files = []
    for wanted in dict.fromkeys(request.companions):
        kind = next((one for one in COMPANION_KINDS if one == wanted), None)
        if kind is None:
            raise RequestError(
                f"{wanted!r} cannot be downloaded as a companion; only {', '.join(COMPANION_KINDS)} can."
            )
        if (companion := companion_for(variants, variant, kind)) is None:
            raise RequestError(f"{listing.repo_id} has no {kind} for {variant.key}. {without}")
        files += shard_files(folder, listing, variants.whole_companions[companion.path], kind)
    return files


def shard_files(
    models_directory: Path, listing: RepoListing, variant: Variant, kind: str = "shard"
) -> list[PlannedFile]:
    """The files of a variant or companion, in order; parts of a byte split, of known sizes, share a target."""
    if len(variant.files) > _MOST_FILES:
        raise RequestError(
            f"{variant.key} is split into {len(variant.files)} files, and more than {_MOST_FILES} are not downloaded."
        )
    if variant.split != "bytes":
        return [planned_file(models_directory, listing, path, kind) for path in variant.files]
    parts, offset = [], 0
    for path in variant.files:
        parts.append(planned_file(models_directory, listing, path, kind, offset))
        size = parts[-1].size_bytes
        if size is None:
            raise HubUnavailableError(f"The Hub does not say how large {path} is, so its parts cannot be joined.")
        offset += size
    return parts


def planned_file(
    models_directory: Path, listing: RepoListing, path: str, kind: str, offset_bytes: int = 0
) -> PlannedFile:
    """One file of a listing at its usual place; a `RequestError` if its name cannot be stored."""
    file = listing.file(path)
    target = target_path(models_directory, listing.repo_id, parse_path(path).place)
    check_length(target, LONGEST_PATH_CHARACTERS)
    return PlannedFile(path, file.size_bytes, file.sha256, str(target), offset_bytes, kind)


def refuse_other_version(models: Iterable[Model], plan: PlannedDownload) -> None:
    """Refuses, unless forced, a path that has another version of a registered file: it would fail at the end."""
    if plan.force:
        return
    wanted = {file.target: file for file in plan.files}  # of a joined file, the last part
    for model in models:
        for file in model.files:
            new = wanted.get(file.target)
            if new is None or new.offset_bytes or None in (new.sha256, file.sha256) or new.sha256 == file.sha256:
                continue
            if os.path.lexists(file.target):
                raise RequestError(
                    f"The Hub has a new version of {model.id}; the one in {file.target} is kept. "
                    f"Download the new one in its place: %gguf update {model.id.typed}"
                )


def _with_known_times(
    files: Sequence[PlannedFile], known: Mapping[str, StoredFile], of_commit: Mapping[str, StoredFile]
) -> Iterator[PlannedFile]:
    """The files, each with the time at which the catalog verified its target, if that had the same content.

    The catalog has no digests of the parts of a joined file, so that must be of the same commit.
    """
    sizes = sizes_by_target(files)
    for file in files:
        is_part = file.size_bytes != (size_bytes := sizes[file.target])
        stored = (of_commit if is_part else known).get(file.target)
        if stored is not None and stored.is_verified and stored.size_bytes == size_bytes:
            yield replace(file, known_mtime_ns=stored.mtime_ns) if is_part or stored.sha256 == file.sha256 else file
        else:
            yield file


def registered_donors(models: Iterable[Model], wanted_path: str) -> tuple[str, ...]:
    """Paths of registered files that may be the same model as a file of a repository, by their names; the newest first.

    One name may have additional words in front: `Qwen_Qwen3-8B` and `Qwen3-8B` agree.
    """
    wanted = parse_path(wanted_path).base_words
    found: dict[str, None] = {}
    for file in (file for model in models for file in model.shards if file.size_bytes):
        words = parse_path(Path(file.path_in_repo).name).base_words
        length = min(len(words), len(wanted))
        if length and words[-length:] == wanted[-length:]:
            found[file.target] = None
    return tuple(found)[:_MOST_DONORS]


@contextmanager
def pointing_to_children(hub: HubClient, repo_id: str) -> Iterator[None]:
    """If a repository has no GGUF files, names repositories that were made from it. Raises `NoGgufFilesError`."""
    try:
        yield
    except NoGgufFilesError:
        names: tuple[str, ...] = ()
        if modelscope_name(repo_id) is not None:
            raise
        with suppress(GglibError):  # if the Hub has no such search, the first error is sufficient
            names = tuple(row.repo_id for row in hub.search(quantized_from=repo_id, limit=_MOST_CHILDREN))
        if not names:
            raise
        raise NoGgufFilesError(
            f"{repo_id} has no GGUF files. GGUF versions of it, most used first: {', '.join(names)}. "
            f"Download one: %gguf queue {names[0]}",
            alternatives=names,
        ) from None
