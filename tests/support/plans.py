"""Planned downloads and stored files for tests, with plain defaults."""

from gglib_nb.domain.download import PlannedDownload, PlannedFile, StoredFile
from gglib_nb.domain.names import DownloadId

COMMIT = "c" * 40


def a_file(path="model.gguf", *, size_bytes=100, sha256="a" * 64, target=None, offset_bytes=0, kind="shard"):
    return PlannedFile(path, size_bytes, sha256, target or f"/models/{path}", offset_bytes, kind)


def an_mmproj(path="mmproj-F16.gguf", *, sha256="e" * 64):
    return a_file(path, size_bytes=30, sha256=sha256, kind="mmproj")


def shards(stem, count):
    return tuple(a_file(f"{stem}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1))


def a_plan(text="owner/model:Q4_K_M", *files, commit_sha=COMMIT, **fields):
    """A plan of one file named after its id, unless the test gives the files."""
    id_ = DownloadId.parse(text)
    default = (a_file(f"{id_.repo_id}/{id_.quantization}.gguf"),)
    return PlannedDownload(id_, commit_sha, label=id_.quantization, files=files or default, **fields)


def stored(plan, *, is_verified=True, was_present=False, reused=(0, ())):
    """The engine's report of a finished plan: a file for every target, in the order of first parts."""
    firsts = {file.target: file for file in reversed(plan.files)}
    sizes = {
        target: sum(part.size_bytes or 0 for part in plan.files if part.target == target)
        for target in dict.fromkeys(file.target for file in plan.files)
    }
    return tuple(
        StoredFile(
            target=target,
            path_in_repo=firsts[target].path_in_repo,
            kind=firsts[target].kind,
            size_bytes=size,
            sha256=firsts[target].sha256,
            is_verified=is_verified,
            mtime_ns=1,
            was_present=was_present,
            facts={},
            reused_bytes=reused[0],
            reused_from=reused[1],
        )
        for target, size in sizes.items()
    )
