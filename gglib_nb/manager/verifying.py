"""What is to be hashed of models, and what follows for them from what came out. Pure; the engine hashes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from gglib_nb.domain.checking import CheckedFile, Verification, VerifyProgress
from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.model import Model
from gglib_nb.engine.protocol import FileToCheck
from gglib_nb.manager.engine import FileCheck
from gglib_nb.manager.importing import stated_sha256

OnVerifyProgress = Callable[[VerifyProgress], None]


def files_to_check(models: Iterable[Model], block_digests: Callable[[str], str]) -> list[FileToCheck]:
    """Every file of the models, each once.

    Args:
        models: Whose files.
        block_digests: What is known of the blocks of a content, by its SHA-256; empty where nothing is.
    """
    files = {file.target: file for model in models for file in model.files}
    return [
        FileToCheck(
            file.target, file.size_bytes, file.sha256, "" if file.sha256 is None else block_digests(file.sha256)
        )
        for file in files.values()
    ]


def judged_files(models: Iterable[Model], checked: Iterable[CheckedFile], at_s: float) -> list[StoredFile]:
    """What is to be written down of the files: right from now on, or wrong and where.

    What is missing, unreadable or was changed while it was read says nothing of the bytes, and is left as it was.
    """
    results = {result.path: result for result in checked}
    files = {file.target: file for model in models for file in model.files}
    judged = (_judged(file, results.get(target), at_s) for target, file in files.items())
    return [file for file in judged if file is not None]


def verifications(models: Iterable[Model], checked: Iterable[CheckedFile]) -> list[Verification]:
    """What came out, by model."""
    results = {result.path: result for result in checked}
    return [Verification(str(model.id), tuple(results[file.target] for file in model.files)) for model in models]


def teller(
    check: FileCheck, models: Sequence[Model], files: Sequence[FileToCheck], tell: OnVerifyProgress
) -> Callable[[], None]:
    """What passes on how far a check is, whenever it is called and something is new."""
    owners = {file.target: str(model.id) for model in reversed(models) for file in model.files}
    total_bytes = sum(file.size_bytes for file in files)
    told: tuple[int, int] | None = None

    def pass_on() -> None:
        nonlocal told
        if (reading := check.reading) is not None and reading != told:
            told = reading
            path = files[reading[0]].path
            tell(VerifyProgress(owners[path], path, min(reading[1], total_bytes), total_bytes))

    return pass_on


def _judged(file: StoredFile, result: CheckedFile | None, at_s: float) -> StoredFile | None:
    if result is None or result.mtime_ns is None or result.sha256 is None:
        return None
    if result.verdict == "wrong":
        return replace(file, mtime_ns=result.mtime_ns, wrong_ranges=result.wrong_ranges or (), verified_at_s=None)
    return replace(
        file,
        sha256=result.sha256,
        mtime_ns=result.mtime_ns,
        is_verified=file.is_verified or stated_sha256(Path(file.target)) == result.sha256,
        # Where the Hub does not state what it should be, it is known from now on whether it changes.
        verified_at_s=at_s if result.verdict == "right" else None,
        wrong_ranges=None,
        block_digests=result.block_digests,
    )
