"""How a download is named: `owner/repo@revision:quantization`, parsed and printed.

Pure text rules. Whether a repository exists, and which commit a revision means, is the hub floor's business.
"""

import re
from typing import Final, Self
from urllib.parse import unquote

from typing_extensions import override

from gglib_nb.domain.values import Value
from gglib_nb.errors import InvalidRepoIdError

# The Hub's own rule (huggingface_hub `validate_repo_id`), with the owner required: GGUF repositories have one.
_NAME: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPO_ID: Final = re.compile(rf"{_NAME}/{_NAME}")
_LONGEST_REPO_ID: Final = 96
_PASTED_PREFIX: Final = re.compile(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?:models/)?", re.IGNORECASE)
_PASTED_PAGE: Final = re.compile(
    r"(?P<repo_id>[^/@:?#]+/[^/@:?#]+)"
    r"(?:@(?P<at>[^:?#]+))?"
    r"(?:/(?:tree|blob|resolve)/(?P<revision>[^/:?#]+)(?P<path>/[^:?#]*)?)?"
    r"(?:[/?#][^:]*)?"  # another page of the repository, a query, a fragment
    r"(?::(?P<tail>[^/:]+))?"
)


class DownloadId(Value, frozen=True):
    """Names one download.

    Attributes:
        repo_id: `owner/name` as the Hub has it.
        quantization: The tail that names the variant: its label, or its file stem where the label names
            several. None: not said, the choosing rule decides.
        revision: Branch, tag or commit as asked for; None is the default branch.
    """

    repo_id: str
    quantization: str | None = None
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the text form; every text parses.

        The quantization is what follows the last `:` whose tail is non-empty and has no `/`.
        """
        head, tail = _split_tail(text)
        repo_id, at, revision = head.partition("@")
        return cls(repo_id, tail, revision if at and revision else None)

    @property
    def group_id(self) -> str:
        """The id under which all shards of the download are cancelled: its text form."""
        return str(self)

    @override
    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        tail = "" if self.quantization is None else f":{self.quantization}"
        return f"{self.repo_id}{revision}{tail}"


def _split_tail(text: str) -> tuple[str, str | None]:
    end = len(text)
    while (colon := text.rfind(":", 0, end)) >= 0:
        tail = text[colon + 1 :]
        if "/" in tail:
            break
        if tail:
            return text[:colon], tail
        end = colon
    return text, None


def parse_pasted(text: str) -> DownloadId:
    """Reads what a person pastes: an id, or the address of a repository, or of a file in it, on the Hub.

    The page of a file or a folder asks for the variant of that name.

    Raises:
        InvalidRepoIdError: There is no `owner/name` in it.
    """
    bare = _PASTED_PREFIX.sub("", text.strip())
    if bare != text.strip() and (page := _PASTED_PAGE.fullmatch(bare)):
        revision = page["at"] or unquote(page["revision"] or "main")
        name = unquote(page["path"] or "").rstrip("/").rpartition("/")[2]
        parsed = DownloadId(page["repo_id"], page["tail"] or name or None, None if revision == "main" else revision)
    else:
        parsed = DownloadId.parse(bare)
    check_repo_id(parsed.repo_id)
    return parsed


def check_repo_id(repo_id: str) -> None:
    """Refuses what cannot be a repository's id, before anything is asked of the Hub.

    Raises:
        InvalidRepoIdError: It is not of the form `owner/name`.
    """
    shaped = _REPO_ID.fullmatch(repo_id) and ".." not in repo_id and "--" not in repo_id
    if not shaped or len(repo_id) > _LONGEST_REPO_ID:
        raise InvalidRepoIdError(
            f"{repo_id!r} is not a repository id. Write owner/name, as in the address of its page."
        )
