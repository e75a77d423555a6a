"""What a user's text names: a repository to download, a download of the queue, a model, or a row of a table.

One rule for all: `#2` or `2` is the second row of the verb's list; any other text is an id, or a part of an id that
matches only one, in any case. A repository may also be pasted as an address or as a command of another program.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, TypeVar
from urllib.parse import parse_qs, unquote

from gglib_nb.domain.companions import kind_by_name
from gglib_nb.domain.model import Model
from gglib_nb.domain.names import REPO_ID, DownloadId, canonical, check_repo_id, modelscope_name, parse_path, read_label
from gglib_nb.domain.snapshot import QueuedDownload, QueueSnapshot
from gglib_nb.domain.text import did_you_mean, similar
from gglib_nb.domain.units import listed, plural
from gglib_nb.errors import (
    AmbiguousQuantizationError,
    GglibError,
    InvalidRepoIdError,
    ModelNotFoundError,
    NotInQueueError,
)

_ROW: Final = re.compile(r"#?(\d+)", re.ASCII)
_MOST_NAMED: Final = 5
_Item = TypeVar("_Item")


def row_number(text: str) -> int | None:
    """The number of `#2` or `2`; None for every other text."""
    found = _ROW.fullmatch(text)
    return None if found is None else int(found[1])


def pick_row(number: int, rows: Sequence[_Item], error: type[GglibError], said: str) -> _Item:
    """The row of a 1-based number; without it, an `error` that ends with `said`, a sentence about the list."""
    if not 1 <= number <= len(rows):
        raise error(f"There is no row {number}. {said}")
    return rows[number - 1]


def has_word(text: str) -> bool:
    """Whether it contains a letter or a digit: `/` and `.` are in every id, and name none."""
    return any(map(str.isalnum, text))


def _matching(text: str, labels: Mapping[DownloadId, str | None]) -> list[DownloadId]:
    """The ids that a text names by the first rule that finds any; `labels` has the label of each id, if known."""
    typed = canonical(text.strip())
    if not has_word(typed):
        return []
    if exact := [id_ for id_ in labels if str(id_) == typed]:
        return exact
    names = [_names(id_, label) for id_, label in labels.items()]
    for rule in zip(*names, strict=True):
        if found := [id_ for id_, each in zip(labels, rule, strict=True) if typed.casefold() in each]:
            return found
    return []


def _names(id_: DownloadId, label: str | None) -> tuple[set[str] | str, ...]:
    """What matches an id, in lower case: itself; its other names; any part of it."""
    whole, repo_id, tail = str(id_).casefold(), id_.repo_id.casefold(), id_.quantization
    plain = {str(DownloadId(repo_id, one)).casefold() for one in (tail, label or tail)}
    names = {repo_id, *plain, *(name.partition("/")[2] for name in (whole, repo_id, *plain))}
    return {whole}, names, whole


_GROUPS: Final = {"items": "is waiting", "recent_failures": "has failed", "recent_cancelled": "was cancelled"}


def find_download(
    text: str, snapshot: QueueSnapshot, group: str = "items", *, is_discarded: bool = False
) -> DownloadId:
    """The download that a text names: `#2` is the second in a list of `%gguf status`, of `items` a position.

    An id is looked for in all lists; a part of one in the group, then in all lists. A `NotInQueueError` names several
    matches, or a similar id. `is_discarded`: what an id only begins is not meant, because the named one may be gone.
    """
    first: Sequence[QueuedDownload] = getattr(snapshot, group)
    if (number := row_number(text)) is not None:
        rows = [item for item in first if group != "items" or item.status.is_pending]
        said = f"{len(rows)} {_GROUPS[group].split()[1]}" if rows else f"Nothing {_GROUPS[group]}"
        return pick_row(number, rows, NotInQueueError, f"{said}. %gguf status lists downloads.").id
    if (exact := snapshot.downloads.get(canonical(text.strip()))) is not None:
        return exact.id
    known = [dict.fromkeys(item.id for item in each) for each in (first, snapshot.downloads.values())]
    found = next(filter(None, (_matching(text, ids) for ids in known)), [])
    if len(found) == 1:
        if is_discarded and is_beginning(text, found[0], snapshot.downloads[str(found[0])].label):
            raise NotInQueueError(f"No download matches {text!r}. Did you mean {found[0]}?")
        return found[0]
    if found:
        named = listed(found, _MOST_NAMED)
        raise NotInQueueError(f"{text!r} matches {len(found)} downloads: {named}. Write more of the id.")
    hint = did_you_mean(similar(text, map(str, known[1]), cutoff=0.8))
    raise NotInQueueError(f"No download matches {text!r}. {hint}%gguf status lists them.")


def find_model(models: Sequence[Model], text: str) -> Model:
    """The model that a text names; `#2` is the second of `models`.

    Raises `ModelNotFoundError`, whose text names similar ones, or `AmbiguousQuantizationError` with ids as `choices`.
    """
    wanted = text.strip()
    if (number := row_number(wanted)) is not None:
        return pick_row(
            number, models, ModelNotFoundError, f"You have {plural(len(models), 'model')}; %gguf models lists them."
        )
    by_id = {model.id: model for model in reversed(models)}
    found = _matching(wanted, {model.id: model.label for model in models})
    if len(found) == 1:
        return by_id[found[0]]
    if found:
        choices = tuple(map(str, found))
        raise AmbiguousQuantizationError(
            f"{wanted!r} could be several models; say which one: {', '.join(choices)}.", choices
        )
    if not models:
        raise ModelNotFoundError(
            f"There is no model {wanted!r}: none is registered yet. `%gguf queue owner/repo` downloads one."
        )
    hint = did_you_mean(similar(wanted, map(str, by_id), 3, 0.5))
    raise ModelNotFoundError(f"There is no model {wanted!r}. {hint}`%gguf models` lists all.")


def is_beginning(text: str, id_: DownloadId, label: str | None = None) -> bool:
    """Whether a text that begins an id is one itself: `Q6_K` of `Q6_K_L`, `a/b` of `a/b-2`, `a/b:Q4` of `a/b@1f:Q4`."""
    asked = DownloadId.parse(text.strip())
    if asked.repo_id.casefold() != id_.repo_id.casefold():
        return "/" in asked.repo_id
    names = [name.casefold() for name in (id_.quantization, label) if name is not None]
    is_other_version = asked.revision is None and id_.revision is not None
    return asked.quantization is not None and (is_other_version or asked.quantization.casefold() not in names)


def refuse_beginning(text: str, model: Model) -> None:
    """Refuses, with a `ModelNotFoundError`, a model whose id the text only begins: the one it names may be gone."""
    if is_beginning(text, model.id, model.label):
        raise ModelNotFoundError(f"There is no model {text!r}. Did you mean {model.id}?")


def find_repository(text: str, rows: Sequence[DownloadId]) -> DownloadId:
    """What to download: an id, a pasted address, or a row of the last table; else an `InvalidRepoIdError`."""
    if (number := row_number(text)) is None:
        return parse_pasted(text)
    has = f"The last table has {len(rows)}." if rows else "No repositories are listed."
    return pick_row(number, rows, InvalidRepoIdError, f"{has} Write owner/name, or search first: %gguf search WORDS")


# Pasted text

_WITH_PATH: Final = re.compile(rf"(?P<repo_id>{REPO_ID})(?:@(?P<at>[^:]+))?:(?P<path>[^:]*/[^:]+)")
_PASTED_PREFIX: Final = re.compile(
    r"^(?:(?:(?:https?|ssh)://)?(?:[^/@]+@)?(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)[/:]"
    r"|(?:hf|huggingface)://)(?:api/)?(?:models/)?",
    re.IGNORECASE,
)
_PASTED_PAGE: Final = re.compile(
    r"(?P<repo_id>[^/@:?#]+/[^/@:?#]+)"
    r"(?:@(?P<at>refs/pr/\d+|[^/:?#]+))?"
    r"(?:/(?:tree|blob|resolve|raw|commits?|file/view)/(?P<revision>refs/pr/\d+|[^/:?#]+)(?P<path>/[^:?#]*)?)?"
    r"(?P<rest>/[^:?#]*)?"  # a path behind hf://owner/name; another page of the repository behind https://
    r"(?:\?(?P<query>[^#:]*))?"
    r"(?:#[^:]*)?"
    r"(?::(?P<tail>[^/:]+))?"
)
# Options of llama.cpp, and the commands of programs that take a repository or an address of the Hub.
_REPO_OPTIONS: Final = ("-hf", "-hfr", "--hf-repo", "--model")
_FILE_OPTIONS: Final = ("-hff", "--hf-file", "--include")
# What precedes a command or a reference: a prompt, a cell's `!`, variables, a program that runs others, our own verb.
_PROMPT: Final = re.compile(
    r"\s*(?:[!>]\s*|\$\s+)?(?:\w+=\S*\s+)*(?:(?:sudo|uvx(?:\s+--from\s+\S+)?|%gguf\s+(?:queue|plan))\s+)?"
)
_EMPTY_OPTION: Final = re.compile(r"""\s--[\w-]+=(?:''|"")?(?=\s|$)""")
_COMMANDS: Final = re.compile(
    r"(?:llama|llamafile|ollama|hf|huggingface-cli|modelscope|lms|koboldcpp|local-ai|ramalama|docker|vllm|git|wget|curl"
    r"|aria2c)(?:[-.].*)?",
    re.IGNORECASE,
)
_OTHER_PAGE: Final = re.compile(
    "(?:datasets|spaces|buckets|collections|papers|docs|blog|posts|learn|organization|profile)/", re.IGNORECASE
)
_ADDRESS: Final = re.compile(r"[^/]+://[^/]+/[^/]")  # with a path: a mirror's address alone names no repository


def parse_pasted(text: str) -> DownloadId:
    """Parses pasted text: an id, an address on the Hub, or a command of llama.cpp, Ollama or the Hub's client.

    The page of a file or folder requests the variant of that path. Without `owner/name`, it is an `InvalidRepoIdError`.
    """
    is_of_modelscope = re.match(r".*MODEL_ENDPOINT=\S*modelscope", text)
    text = _EMPTY_OPTION.sub("", _PROMPT.sub("", text, count=1))
    words = text.replace("'", " ").replace('"', " ").split()
    parsed = _of_command(words) if is_command(words) else _of_reference(text.strip())
    if (is_of_modelscope or words[:1] == ["modelscope"]) and modelscope_name(parsed.repo_id) is None:
        parsed = DownloadId(canonical(f"ms://{parsed.repo_id}"), parsed.quantization, parsed.revision)
    meant = DownloadId.parse(":".join(word for word in words if not word.startswith("--")))
    is_meant = len(words) > 1 and re.fullmatch(REPO_ID, meant.repo_id) and read_label(meant.quantization or "")
    if is_meant:  # `owner/name Q4_K_M`, or with options of ours
        raise InvalidRepoIdError(f"{text.strip()!r} is not a repository id. Did you mean {meant}?")
    check_repo_id(parsed.repo_id)
    return parsed


def is_command(words: Sequence[str]) -> bool:
    """Whether words are a command of another program that takes a repository of the Hub, perhaps after a prompt."""
    words = _PROMPT.sub("", " ".join(words), count=1).split()
    return len(words) > 1 and _COMMANDS.fullmatch(words[0].rpartition("/")[2]) is not None


def _of_reference(pasted: str) -> DownloadId:
    text = canonical(pasted)
    bare = _PASTED_PREFIX.sub("", text).removesuffix(".git")  # no repository of the Hub ends so
    is_page = bare != text or (text != pasted and not pasted.lower().startswith("ms://"))
    if is_page and _OTHER_PAGE.match(modelscope_name(bare) or bare):
        raise InvalidRepoIdError(f"{pasted!r} is not the page of a model. Write owner/name, as in the address of one.")
    page = _PASTED_PAGE.fullmatch(bare) if is_page else None
    if page is None:
        with_path = _WITH_PATH.fullmatch(bare)
        return DownloadId.parse(bare) if with_path is None else DownloadId(*with_path.group("repo_id", "path", "at"))
    has_file = text.partition("://")[0].lower() in ("hf", "huggingface") or bare.lower().endswith(".gguf")
    shown = parse_qs(page["query"] or "").get("show_file_info", [""])[0]
    path = shown or unquote(page["path"] or (page["rest"] if has_file else "") or "").strip("/")
    default = "main" if modelscope_name(bare) is None else "master"
    revision = unquote(page["at"] or page["revision"] or default)
    return DownloadId(page["repo_id"], page["tail"] or path or None, None if revision == default else revision)


def _of_command(words: list[str]) -> DownloadId:
    """The repository after `-hf`, or the first word that names one; file and revision if they are stated."""
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word]) if part]
    values = dict(pairwise(parts))
    plain = [word for before, word in pairwise(parts) if not word.startswith("-") and not before.startswith("-")]
    paths = sorted((word for word in (*plain, *parts[1:]) if "/" in word), key=lambda word: not _ADDRESS.match(word))
    named = next((values[option] for option in _REPO_OPTIONS if option in values), next(iter(paths), " ".join(words)))
    found = _of_reference(named)
    if words[0].rpartition("/")[2].lower() == "lms" and found.revision:  # `owner/name@q4_k_m`
        found = DownloadId(found.repo_id, found.revision)
    named_files = (word for word in plain if word.lower().endswith(".gguf") and word != named)
    files = (*named_files, *(word for option, word in pairwise(parts) if option in _FILE_OPTIONS))
    models_first = sorted(map(_without_wildcards, files), key=lambda file: kind_by_name(parse_path(file)) is not None)
    tag = next(filter(None, models_first), found.quantization)
    revision = values.get("--revision", found.revision)
    return DownloadId(found.repo_id, None if tag == "latest" else tag, None if revision == "main" else revision)


def _without_wildcards(file: str) -> str:
    """What `*Q4_K_M*`, `*-Q4_K_M.gguf` or `Q4_K_M/*` name; any other text as it is."""
    return re.sub(r"\*|\.gguf$", "", file).strip("/._-") if "*" in file else file
