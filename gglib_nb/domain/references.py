"""The name of a download, `owner/repo@revision:quantization`, parsed and printed, and where its files are stored."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path, PurePath, PureWindowsPath
from typing import Final, Self, TypeVar
from urllib.parse import parse_qs, unquote

from typing_extensions import override

from gglib_nb.domain.values import Value
from gglib_nb.errors import InvalidRepoIdError, RequestError

# The Hub's own rule (huggingface_hub `validate_repo_id`), with the owner required: GGUF repositories have one.
_NAME: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPO_ID: Final = re.compile(rf"{_NAME}/{_NAME}")
_WITH_TAIL: Final = re.compile(r"(.*):([^/]+)", re.DOTALL)
_WITH_PATH: Final = re.compile(rf"(?P<repo_id>{_NAME}/{_NAME})(?:@(?P<at>[^:]+))?:(?P<path>[^:]*/[^:]+)")
_LONGEST_REPO_ID: Final = 96
_PASTED_PREFIX: Final = re.compile(
    r"^(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|(?:hf|huggingface)://)(?:models/)?", re.IGNORECASE
)
_PASTED_PAGE: Final = re.compile(
    r"(?P<repo_id>[^/@:?#]+/[^/@:?#]+)"
    r"(?:@(?P<at>[^/:?#]+))?"
    r"(?:/(?:tree|blob|resolve|raw|file/view)/(?P<revision>[^/:?#]+)(?P<path>/[^:?#]*)?)?"
    r"(?P<rest>/[^:?#]*)?"  # a path behind hf://owner/name; another page of the repository behind https://
    r"(?:\?(?P<query>[^#:]*))?"
    r"(?:#[^:]*)?"
    r"(?::(?P<tail>[^/:]+))?"
)
# Options of llama.cpp, and the commands of programs that take a repository of the Hub.
_REPO_OPTIONS: Final = ("-hf", "-hfr", "--hf-repo")
_FILE_OPTIONS: Final = ("-hff", "--hf-file")
_COMMANDS: Final = re.compile(r"(?:llama|ollama|hf|huggingface-cli|lms|ramalama|docker)(?:[-.].*)?", re.IGNORECASE)


MODELSCOPE: Final = "ms--"
"""Begins the owner of a repository of ModelScope in our ids and folders; no owner on the Hub has `--` in its name."""
_MODELSCOPE_PREFIX: Final = re.compile(r"^(?:ms://|(?:https?://)?(?:www\.)?modelscope\.cn/models/)", re.IGNORECASE)


class DownloadId(Value, frozen=True):
    """Names one download.

    Attributes:
        repo_id: `owner/name` as the Hub has it.
        quantization: The tail that names the variant: its label, or its file stem if several have that label. None: not
            stated; gglib_nb chooses.
        revision: Branch, tag or commit as requested; None: the default branch.
    """

    repo_id: str
    quantization: str | None = None
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses the text form; every text parses.

        The quantization is what follows the last `:` whose tail is non-empty and has no `/`.
        """
        text = canonical(text)
        found = _WITH_TAIL.fullmatch(text)
        head, tail = (text, None) if found is None else found.groups()
        repo_id, _, revision = head.partition("@")
        return cls(repo_id, tail, revision or None)

    @property
    def group_id(self) -> str:
        """Its text form, by which all its shards are cancelled."""
        return str(self)

    @override
    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        tail = "" if self.quantization is None else f":{self.quantization}"
        return f"{self.repo_id}{revision}{tail}"


def parse_pasted(text: str) -> DownloadId:
    """Parses pasted text: an id, an address on the Hub, or a command of llama.cpp, Ollama or the Hub's client.

    The page of a file or a folder requests the variant of that path, which may contain `/`. Text without `owner/name` raises
    `InvalidRepoIdError`.
    """
    words = text.replace("'", " ").replace('"', " ").split()
    parsed = _of_command(words) if is_command(words) else _of_reference(text.strip())
    check_repo_id(parsed.repo_id)
    return parsed


def is_command(words: Sequence[str]) -> bool:
    """Whether words are a command of another program that takes a repository of the Hub, perhaps after a `$`."""
    words = words[list(words[:1]) == ["$"] :]
    return len(words) > 1 and _COMMANDS.fullmatch(words[0].rpartition("/")[2]) is not None


def _of_reference(pasted: str) -> DownloadId:
    text = canonical(pasted)
    bare = _PASTED_PREFIX.sub("", text)
    is_page = bare != text or (text != pasted and not pasted.lower().startswith("ms://"))
    page = _PASTED_PAGE.fullmatch(bare) if is_page else None
    if page is None:
        with_path = _WITH_PATH.fullmatch(bare)
        return DownloadId.parse(bare) if with_path is None else DownloadId(*with_path.group("repo_id", "path", "at"))
    is_file_address = text.partition("://")[0].lower() in ("hf", "huggingface")
    shown = parse_qs(page["query"] or "").get("show_file_info", [""])[0]
    path = shown or unquote(page["path"] or (page["rest"] if is_file_address else "") or "").strip("/")
    default = "main" if modelscope_name(bare) is None else "master"
    revision = unquote(page["at"] or page["revision"] or default)
    return DownloadId(page["repo_id"], page["tail"] or path or None, None if revision == default else revision)


def _of_command(words: list[str]) -> DownloadId:
    """The repository after `-hf`, or the first word that names one; file and revision if they are stated."""
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    values = dict(pairwise(parts))
    plain = [word for before, word in pairwise(parts) if not word.startswith("-") and not before.startswith("-")]
    paths = [word for word in (*plain, *parts[1:]) if "/" in word]
    named = next((values[option] for option in _REPO_OPTIONS if option in values), next(iter(paths), " ".join(words)))
    found = _of_reference(named)
    files = [word for word in plain if word.lower().endswith(".gguf") and word != named]
    tag = next((values[option] for option in _FILE_OPTIONS if option in values), next(iter(files), found.quantization))
    revision = values.get("--revision", found.revision)
    return DownloadId(found.repo_id, None if tag == "latest" else tag, None if revision == "main" else revision)


def canonical(text: str) -> str:
    """`ms://owner/name`, or the address of its page, in the form of our ids; any other text as it is."""
    return _MODELSCOPE_PREFIX.sub(MODELSCOPE, text)


def modelscope_name(repo_id: str) -> str | None:
    """The name of a repository on ModelScope; None: it is one of the Hub."""
    name = canonical(repo_id)
    return name.removeprefix(MODELSCOPE) if name.startswith(MODELSCOPE) else None


def source_of(repo_id: str) -> str:
    """What serves a repository, for a sentence."""
    return "the Hub" if modelscope_name(repo_id) is None else "ModelScope"


def check_repo_id(repo_id: str) -> None:
    """Refuses, with an `InvalidRepoIdError`, an id that is not of the form `owner/name`, before the Hub is asked."""
    name = modelscope_name(repo_id) or repo_id
    shaped = _REPO_ID.fullmatch(name) and ".." not in name and "--" not in name
    if not shaped or len(repo_id) > _LONGEST_REPO_ID:
        raise InvalidRepoIdError(
            f"{repo_id!r} is not a repository id. Write owner/name, as in the address of its page."
        )


# Where a file of a repository is stored: `<models>/<owner>/<repo>/<path in repo>`, as LM Studio expects it. Only this turns
# names from a hub into a path, so it refuses hostile ones. The rules of Windows and of POSIX hold everywhere (as in
# huggingface_hub): machines may share a models folder, and a name that is harmless on one system may leave the folder on the
# other. What is harmless there but impossible on Windows is refused only on Windows.

# "Naming Files, Paths, and Namespaces" (Microsoft): device names, alone or before any extension.
_DEVICE: Final = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|COM[0-9¹²³]|LPT[0-9¹²³]) *(?:\..*)?", re.IGNORECASE | re.DOTALL
)
# Backslash and colon separate (UNC, drives, alternate streams); below U+0020 and from U+007F are NUL and the terminal's
# controls; the others end a line or turn its direction, so that `\u202efugg.exe` is read as `exe.gguf`.
_FORBIDDEN: Final = re.compile("[\\\\:\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# Other systems allow these, so they are refused only on Windows.
_FORBIDDEN_ON_WINDOWS: Final = re.compile(r'[<>"|?*]')
# Of Linux and macOS alike; a longer name cannot be written.
_LONGEST_NAME_BYTES: Final = 255
# `.part.lease.` and 16 digits, beside a target during its download.
_LONGEST_SUFFIX_CHARACTERS: Final = len(".part.lease.") + 16
_MOST_SHOWN: Final = 120
_Path = TypeVar("_Path", bound=PurePath)


def target_path(models_directory: _Path, repo_id: str, path_in_repo: str) -> _Path:
    """The path of a file of a repository, absolute if the models folder is.

    Raises `InvalidRepoIdError`, or `RequestError` if it could be outside of the repository's folder, or no file at all.
    """
    check_repo_id(repo_id)
    parts = (*repo_id.split("/"), *path_in_repo.split("/"))
    for part in parts:
        if (reason := _refusal(part, is_windows=isinstance(models_directory, PureWindowsPath))) is not None:
            raise RequestError(
                f"{repo_id} lists a file under the name {_in_short(path_in_repo)}, which {reason}; it cannot be stored here."
            )
    return models_directory.joinpath(*parts)


def check_length(target: Path, longest_characters: int | None) -> None:
    """Refuses, with a `RequestError`, an absolute path that this system cannot write.

    `longest_characters` is the limit of a path, including the longest suffix of a partial download (Windows: 259 without an
    administrator's setting); None: no limit.
    """
    if longest_characters is not None and len(str(target)) > longest_characters - _LONGEST_SUFFIX_CHARACTERS:
        raise RequestError(
            f"{_in_short(str(target))} has {len(str(target))} characters; on Windows the path of a model can have at most "
            f"{longest_characters - _LONGEST_SUFFIX_CHARACTERS}. Choose a shorter models folder, then queue it again."
        )


def _in_short(path: str) -> str:
    return repr(path) if len(path) <= _MOST_SHOWN else f"{path[:_MOST_SHOWN]!r}…"


def _refusal(part: str, *, is_windows: bool) -> str | None:
    """Why this name between two slashes cannot be used; None: it can."""
    faults = {
        "has an empty part": not part,
        "contains a backslash, a colon, or a control character": _FORBIDDEN.search(part),
        "contains a character that Windows does not allow": is_windows and _FORBIDDEN_ON_WINDOWS.search(part),
        # `.` and `..` too; Windows strips these, and then two names are one file.
        "has a part that ends in a dot or a space": part.endswith((".", " ")),
        "names a device on Windows": _DEVICE.fullmatch(part),
        "is not text": any("\ud800" <= character <= "\udfff" for character in part),
        f"has a part of more than {_LONGEST_NAME_BYTES} bytes": len(part.encode(errors="replace"))
        > _LONGEST_NAME_BYTES,
    }
    return next((fault for fault, applies in faults.items() if applies), None)
