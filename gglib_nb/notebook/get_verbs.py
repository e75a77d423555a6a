"""The verbs that find and download models."""

import re
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal

from msgspec.structs import asdict

from gglib_nb.domain import units
from gglib_nb.domain.companions import COMPANION_KINDS
from gglib_nb.domain.download import DownloadRequest, DownloadStatus
from gglib_nb.domain.memory import CacheType
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.references import find_repository, is_command
from gglib_nb.domain.snapshot import QueuedDownload
from gglib_nb.notebook import listings, plan_table
from gglib_nb.notebook.model_verbs import Folder
from gglib_nb.notebook.queue_verbs import state_sentence
from gglib_nb.notebook.rows import scan_warning
from gglib_nb.notebook.session import Answer, Session
from gglib_nb.notebook.verb import CANCELLED, Argument, GrammarError, read_count, read_parameters, verb

_FIRST_REPORT_S: Final = 1.0
_POLL_S: Final = 0.02


def _repositories(session: Session, words: Sequence[str]) -> Iterable[str]:
    """Repositories, or the variants of a repository whose name is complete."""
    snapshot = session.known_snapshot
    queued = () if snapshot is None else snapshot.downloads.values()
    ids = [*session.seen, *(item.id for item in queued), *session.known_models()]
    typed = words[-1].partition(":")[0].partition("@")[0].casefold()
    yield from (str(id_) for id_ in ids if id_.repo_id.casefold() == typed)
    yield from (id_.repo_id for id_ in ids)


def _read_reference(text: str) -> str:
    if re.match(r"\{|\$\w", text):
        raise GrammarError(
            f"IPython could not replace {text!r}: a name in this line is not defined. Put a literal $ in single quotes"
        )
    return text


Repository = Annotated[
    DownloadId,
    Argument(
        "REPO[:QUANT]",
        "owner/name, an address on the Hub, a command such as ollama run hf.co/owner/name, or #2 for the second row of "
        "the last search, plan or history. QUANT is a quantization or a file name; without it the best common one is "
        "chosen.",
        read=_read_reference,
        find=lambda session, text: find_repository(text, session.rows),
        offers=_repositories,
        is_command=is_command,
    ),
]


@verb("get")
def queue(
    session: Session,
    reference: Repository,
    *,
    revision: str | None = None,
    force: bool = False,
    with_: Annotated[tuple[str, ...], Argument(choices=COMPANION_KINDS)] = (),
    no_db: bool = False,
    no_start: bool = False,
    everywhere: bool = False,
    to: Folder | None = None,
    then: str | None = None,
) -> str:
    """Download a model: choose a variant, add it to the queue and start.

    --revision REVISION: A branch, a tag or a commit.
    --force: Download again even if you have the file.
    --with KIND: Also download a companion file; mmproj is a vision projector, draft a draft model for speculative
        decoding.
    --no-db: Do not add the model to %gguf models.
    --no-start: Add it to the queue without starting the queue; %gguf resume --all starts it.
    --everywhere: On a Dask cluster: download a copy to every host's own folder.
    --to FOLDER: Store it in this folder instead of the models folder.
    --then COMMAND: Run this shell command once the download is complete; write it in single quotes, with "$GGUF_PATH"
        for the file.
    """
    variant, commit = reference.quantization, _revision(reference, revision)
    request = DownloadRequest(reference.repo_id, variant, commit, force, not no_db, with_, everywhere, to, then)
    before = {item.id for item in session.manager.snapshot.items}
    id_ = session.sync.queue_download(request) if no_start else session.sync.queue_smart(**asdict(request)).id
    session.note(id_)
    item = _first_report(id_, session)
    state = state_sentence(item)
    is_waiting = item is not None and item.status is DownloadStatus.QUEUED
    if no_start and is_waiting and not session.manager.snapshot.is_processing:
        state += " Start the queue: %gguf resume --all"
    if item is None or (id_ in before and not item.was_present):
        return f"{id_} is already in the queue. {state}" if id_ in before else f"Queued {id_}. {state}"
    number = len(item.shards) + len(item.companions)
    size = "size unknown" if item.total_bytes is None else units.size(item.total_bytes)
    size += f", {number} files" if number > 1 else ""
    head = f"Queued {id_} ({size})."
    if item.was_present:
        command = "" if item.then is None else "Its command runs now; %gguf status shows how it ends."
        head, state = f"You already have {id_} ({size}).", command
    parts = (head, item.reason, scan_warning(id_, item.scan_finding), state)
    return " ".join(filter(None, parts))


def _revision(wanted: DownloadId, option: str | None) -> str | None:
    if option and wanted.revision and option != wanted.revision:
        raise GrammarError(f"Write either @{wanted.revision} or --revision {option}")
    return option or wanted.revision


def _first_report(id_: DownloadId, session: Session) -> QueuedDownload | None:
    """The download after a short wait for the engine's first report: a file that you already have is reused."""
    until_s = time.monotonic() + _FIRST_REPORT_S
    while (item := session.manager.snapshot.downloads.get(str(id_))) is not None and time.monotonic() < until_s:
        is_begun = item.notice_kind != "connecting" or item.downloaded_bytes
        if not item.status.is_active or (is_begun and item.progress != 1.0):
            break
        time.sleep(_POLL_S)
    return item


@verb("get", interrupted=CANCELLED)
def plan(
    session: Session,
    reference: Repository,
    *,
    revision: str | None = None,
    context: Annotated[int, Argument(read=read_count, offers=("4096", "8192", "32768"))] | None = None,
    kv: CacheType = "f16",
) -> Answer:
    """Show the variants of a model: size, what you already have, free disk space, fit in memory. Downloads nothing.

    --revision REVISION: A branch, a tag or a commit.
    --context TOKENS: Context length for the memory estimate, such as 8192 or 8k (8,000).
    --kv TYPE: How the keys and values of the context are stored.
    """
    commit = _revision(reference, revision)
    options: dict[str, Any] = {"revision": commit, "context": context, "cache_type": kv}
    found = session.sync.plan(reference.repo_id, reference.quantization, **options)
    session.list_rows(DownloadId(found.repo_id, variant.key, commit) for variant in found.variants)
    return session.answer(*plan_table.plan_blocks(found))


@verb("get", interrupted=CANCELLED)
def search(
    session: Session,
    words: Annotated[str, Argument(takes_rest=True)],
    *,
    max_size: Annotated[int, Argument(read=read_parameters, has_unit=True)] | None = None,
    licence: Annotated[str, Argument(offers=("apache-2.0", "mit", "llama3.1", "gemma"))] | None = None,
    task: Annotated[str, Argument(offers=listings.TASKS)] | None = None,
    sort: Literal["downloads", "likes", "modified", "trending"] = "downloads",
    limit: Annotated[int, Argument(read=read_count)] = 20,
) -> Answer | str:
    """Search the Hub for models in GGUF format.

    Sizes and fit are estimated for Q4_K_M from the number of parameters; %gguf plan has exact numbers.

    --max-size PARAMETERS: At most this many parameters, such as 8B or 500M.
    --licence LICENCE: A licence as the Hub names it, such as apache-2.0.
    --task TASK: A task as the Hub names it, such as image-text-to-text.
    --sort KEY: Order of the rows.
    --limit ROWS: Maximum number of rows; 20 by default.
    """
    found = session.sync.search(words, max_parameters=max_size, licence=licence, task=task, sort=sort, limit=limit)
    session.list_rows(DownloadId(repo.repo_id) for repo in found)
    if not found:
        return listings.nothing_found(words, is_filtered=bool(max_size or licence or task))
    return session.answer(listings.search_table(found))
