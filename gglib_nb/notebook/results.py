"""Sentences about the results and plans of operations on models. Pure."""

from collections.abc import Sequence
from typing import Final

from gglib_nb.domain.importing import ImportReport
from gglib_nb.domain.library import CheckedFile, Deletion, KeptFile, PrunePlan, QueuedUpdate, Repair, Verification
from gglib_nb.domain.printable import printable
from gglib_nb.domain.units import listed
from gglib_nb.notebook import formats

_MOST_RANGES: Final = 5


def deletion_question(plan: Deletion) -> str:
    """The files that a deletion would delete."""
    files = formats.plural(len(plan.deleted), "file")
    return printable(f"{plan.id}: {files}, {formats.size(plan.freed_bytes)} will be freed.{_kept(plan.kept)}")


def deleted(deletion: Deletion) -> str:
    """The files that a deletion deleted."""
    files, freed = formats.plural(len(deletion.deleted), "file"), formats.size(deletion.freed_bytes)
    return printable(f"Deleted {deletion.id}: {files}; {freed} freed.{_kept(deletion.kept)}")


def pruning_question(plan: PrunePlan) -> str:
    """The disk space that deleting several models frees."""
    missing = (
        f" {formats.size(plan.missing_bytes)} more cannot be freed: the other models are in the queue or stored elsewhere."
        if plan.missing_bytes
        else ""
    )
    return f"Deleting {pruned(plan)} frees {formats.size(plan.freed_bytes)}.{missing}"


def pruned(plan: PrunePlan) -> str:
    """A count of what is deleted, such as `2 models and 1 unfinished download`."""
    counts = ((len(plan.models), "model"), (len(plan.unfinished), "unfinished download"))
    return " and ".join(formats.plural(count, noun) for count, noun in counts if count)


def verified(verification: Verification) -> str:
    """The result of a verification, and the next step."""
    if not verification.is_right:
        faults = " ".join(f"{file.path} {_fault(file)}." for file in verification.faults)
        return printable(f"{verification.id} is damaged. {faults} Repair it: %gguf repair {verification.id}")
    has_digests = all(file.verdict == "right" for file in verification.files)
    files = formats.plural(len(verification.files), "file")
    size = formats.size(sum(file.size_bytes or 0 for file in verification.files))
    verdict = "SHA-256 matches" if has_digests else "the Hub gives no SHA-256; a later change will be detected"
    return printable(f"{verification.id}: {files}, {size}, {verdict}.")


def repaired(repair: Repair) -> str:
    """The plan of a repair."""
    if not repair.is_needed:
        return printable(f"{repair.id} is correct; there is nothing to repair.")
    files, size = formats.plural(len(repair.faulty_paths), "file"), formats.size(repair.bytes_to_fetch)
    return printable(
        f"Repairing {repair.id}: {files} damaged or missing, {size} to download. Correct parts are copied from your files. "
        "%gguf shows the progress."
    )


def updating(update: QueuedUpdate) -> str:
    """The plan of an update."""
    if not update.is_needed:
        return printable(f"{update.id} is up to date.")
    return printable(
        f"Updating {update.id} to {update.latest_commit_sha[:8]}: at most {formats.size(update.total_bytes)} to "
        "download. The old version is kept until the new one is verified. %gguf shows the progress."
    )


def imported(report: ImportReport, folder: str) -> str:
    """The files of a folder that were added, and those that were not."""
    are_verified = all(model.state == "verified" for model in report.imported)
    check = "All files are verified." if are_verified else "Check one with: %gguf verify ID"
    head = f"{formats.plural(len(report.imported), 'model')} of {folder} added. {check}"
    if not report.imported:
        head = f"No new models in {folder}."
    added = [f"  {model.id}  {formats.size(model.size_bytes)}  {model.path}" for model in report.imported]
    skipped = [f"  {file.path} {file.reason}" for file in report.skipped]
    return "\n".join(map(printable, [head, *added, *(["Skipped:", *skipped] if skipped else [])]))


def _kept(files: Sequence[KeptFile]) -> str:
    return "".join(f" {kept.path} is kept: {kept.reason}." for kept in files)


def _fault(file: CheckedFile) -> str:
    match file.verdict:
        case "wrong" if ranges := file.wrong_ranges:
            size = formats.size(sum(end - start for start, end in ranges))
            where = listed([f"{start:,} to {end - 1:,}" for start, end in ranges], _MOST_RANGES)
            return f"has wrong bytes at {where} ({size})"
        case "wrong":
            return "is wrong, at unknown positions"
        case "changed":
            return "was changed while it was read"
        case "unreadable":
            return f"cannot be read ({file.reason})"
        case _:
            return "is missing"
