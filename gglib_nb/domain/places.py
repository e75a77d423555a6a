"""Where a file of a repository is stored: `<models>/<owner>/<repo>/<path in repo>`, as LM Studio expects it.

The only module that turns names from a hub into a path, so it refuses hostile ones. The rules of Windows and of POSIX
hold everywhere (as in huggingface_hub): machines may share a models folder, and a name that is harmless on one system
may leave the folder on the other. What is harmless there but impossible on Windows is refused only on Windows.
"""

import re
from pathlib import Path, PurePath, PureWindowsPath
from typing import Final, TypeVar

from gglib_nb.domain.references import check_repo_id
from gglib_nb.errors import RequestError

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

    Raises:
        InvalidRepoIdError: `repo_id` is not of the form `owner/name`.
        RequestError: The path could name something outside of the repository's folder, or no file at all.
    """
    check_repo_id(repo_id)
    parts = (*repo_id.split("/"), *path_in_repo.split("/"))
    is_windows = isinstance(models_directory, PureWindowsPath)
    for part in parts:
        if (reason := _refusal(part, is_windows=is_windows)) is not None:
            raise RequestError(
                f"{repo_id} lists a file under the name {_in_short(path_in_repo)}, which {reason}; it cannot be stored here."
            )
    return models_directory.joinpath(*parts)


def check_length(target: Path, longest_characters: int | None) -> None:
    """Refuses a path that this system cannot write.

    Args:
        target: Absolute.
        longest_characters: The limit of a whole path, including the longest suffix of a partial download (Windows: 259
            characters without an administrator's setting); None: no limit.

    Raises:
        RequestError: It is too long.
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
    if not part:
        return "has an empty part"
    if _FORBIDDEN.search(part):
        return "contains a backslash, a colon, or a control character"
    if is_windows and _FORBIDDEN_ON_WINDOWS.search(part):
        return "contains a character that Windows does not allow"
    if part[-1] in ". ":  # `.` and `..` too; Windows strips these, and then two names are one file
        return "has a part that ends in a dot or a space"
    if _DEVICE.fullmatch(part):
        return "names a device on Windows"
    if any("\ud800" <= character <= "\udfff" for character in part):
        return "is not text"
    if len(part.encode()) > _LONGEST_NAME_BYTES:
        return f"has a part of more than {_LONGEST_NAME_BYTES} bytes"
    return None
