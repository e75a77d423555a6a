"""R: the downloaded bytes when most of a model is already on disk, in another file.

    python -m benchmarks.r_reuse

Real files (`benchmarks.related_models`), the embedded hub, whose log has the sent bytes; and for a changed chat
template of a large model the time compared with copying and hashing it once.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import certifi

from benchmarks.contenders import ARIA2C, HUGGINGFACE_HUB, OURS, OURS_RUNNING, Contender, Job, contenders, missing
from benchmarks.origin import WARM_REPO_ID
from benchmarks.processes import Usage, run_all
from benchmarks.related_models import Case, make_cases, sha256_of, table_of
from benchmarks.report import Bar, Findings
from benchmarks.scenario import Options, run_alone
from gglib_nb.demo import Content, DemoFile, DemoRepository, file_content
from gglib_nb.demo.gguf_writer import Tensor, gguf_content
from tests.support.faulty_hub import FaultyHub

_REPO_ID = "bench/reuse-GGUF"
_MEGABYTE = 1_000_000
_LINE_BYTES_PER_SECOND = 50 * _MEGABYTE
_LABEL = "Q8_0"
_TENSOR_BYTES = 32 * 1024 * 1024


def measure(options: Options) -> Findings:
    """A second quantization, a longer template, another split, a byte that differs; then 10 GB of the second kind."""
    names = (OURS, HUGGINGFACE_HUB, ARIA2C)
    head = ("wanted model", "MB", "header MB", *(f"{name}: MB of line, s" for name in names), "copied")
    findings = Findings("R", "a model that is mostly on disk in another file, line 50 MB/s", head)
    with options.work_folder() as folder, authority() as certificates:
        models = folder / "models"
        models.mkdir()
        for case in make_cases(models):
            findings.rows.append(_row(case, names, folder, certificates, findings))
    _measure_large(options, findings)
    findings.notes += [
        "MB are decimal; those of the line are the file bytes in the hub's log. Every file was checked.",
        "huggingface_hub runs over plain HTTP: its Xet chunk cache needs the Hub's own content-addressed store, for which "
        "no server is available.",
        *(f"{name} is not installed." for name in missing(*names)),
    ]
    return findings


def _row(case: Case, names: Sequence[str], folder: Path, certificates: Path, findings: Findings) -> Sequence[str]:
    cells, ours = [], 0
    for name in names:
        for contender in contenders(name):
            files = {path: file_content(file) for path, file in case.wanted.items()}
            with hub_of(files, case.label) as hub:
                hub.set_speed(_LINE_BYTES_PER_SECOND)
                usage = download(contender, hub, case.label, list(files), case.here, folder / "download", certificates)
                line_bytes = sum(hub.bytes_sent(path) for path in files)
            cells.append(f"{line_bytes / _MEGABYTE:.1f}, {usage.wall_s:.1f}")
            ours = line_bytes if name == OURS else ours
    taken = 1 - ours / case.size_bytes
    if case.name.startswith("b"):
        share = 100 * (ours - case.header_bytes) / case.size_bytes
        findings.bars.append(Bar("b: share of the file without its header that is downloaded", share, 1.0, " %"))
    figures = (f"{case.size_bytes / _MEGABYTE:.1f}", f"{case.header_bytes / _MEGABYTE:.1f}")
    return (case.name, *figures, *cells, f"{max(0.0, taken):.1%}")


def _measure_large(options: Options, findings: Findings) -> None:
    """The time of a changed header on a disk, compared with `cp` and `openssl dgst` of the same file."""
    with tempfile.TemporaryDirectory(prefix="gglib-bench-") as name, authority() as certificates:
        folder = Path(name)
        count = options.mib(9600, 512) // _TENSOR_BYTES
        tensors = [Tensor(f"blk.{number}.weight", (_TENSOR_BYTES,), "I8") for number in range(count)]
        here, wanted = (gguf_content({"general.architecture": "llama", "tokenizer.chat_template": text}, tensors, "large")
                        for text in ("short", "longer " * 10_000))  # fmt: skip
        old = folder / "old" / f"large-{_LABEL}.gguf"
        write(here, old)
        copying, ours = [], []
        with hub_of({f"large-{_LABEL}.gguf": wanted}, _LABEL) as hub:
            for _ in range(min(options.rounds, 3)):
                copying.append(_copy_and_hash(old, folder / "copy.gguf"))
                _forget_cached(old)
                (contender,) = contenders(OURS_RUNNING)
                paths = [f"large-{_LABEL}.gguf"]
                ours.append(download(contender, hub, _LABEL, paths, [old], folder / "download", certificates))
        wall_s = median(run.wall_s for run in ours)
        gigabytes = wanted.size_bytes / 1e9
        plain_s, synced_s = (median(run[index] for run in copying) for index in (0, 1))
        findings.bars += [
            Bar(f"b of {gigabytes:.1f} GB, wall / that of cp and openssl dgst", wall_s / plain_s, 1.0),
            Bar("the same, with cp synced to disk like ours", wall_s / synced_s, 1.0),
        ]
        findings.notes.append(
            f"{gigabytes:.1f} GB on a disk: {wall_s:.1f} s with a running engine, cp and openssl dgst {plain_s:.1f} s, with "
            f"the copy synced to disk {synced_s:.1f} s."
        )


@contextmanager
def hub_of(files: "dict[str, Content]", label: str) -> Iterator[FaultyHub]:
    warm = gguf_content({"general.architecture": "llama"}, [Tensor("a", (64,), "I8")], "warm")
    repositories = [
        DemoRepository(repo_id=_REPO_ID, files=[DemoFile(path, content) for path, content in files.items()]),
        DemoRepository(repo_id=WARM_REPO_ID, files=[DemoFile(f"warm-{label}.gguf", warm)]),
    ]
    for content in files.values():
        _ = content.sha256  # before any code waits for it
    with FaultyHub(repositories) as hub:
        yield hub


def download(
    contender: Contender,
    hub: FaultyHub,
    label: str,
    paths: Sequence[str],
    here: Sequence[Path],
    folder: Path,
    certificates: Path,
) -> Usage:
    """One download to a new folder that already contains the existing files."""
    place = folder / "models" / _REPO_ID
    (place / "here").mkdir(parents=True)
    for path in here:
        (place / "here" / path.name).hardlink_to(path)
    job = Job(int(hub.url.rpartition(":")[2]), _REPO_ID, label, paths, folder, certificates)
    try:
        usage = run_all(contender.commands(job), job.environment())
        found = place if contender.name in {OURS, OURS_RUNNING} else folder
        commit = hub.repositories[_REPO_ID].commit()
        assert commit is not None
        for path in paths:
            if sha256_of(found / path) != commit.files[path].content.sha256:
                raise RuntimeError(f"{contender.name} delivered wrong bytes for {path}")
        return replace(usage, **json.loads(usage.output.splitlines()[-1])) if contender.measures_itself else usage
    finally:
        shutil.rmtree(folder)


def _copy_and_hash(source: Path, target: Path) -> tuple[float, float]:
    """Seconds of copying and hashing, without and with syncing the copy to disk."""
    _forget_cached(source)
    began_s = time.monotonic()
    subprocess.run(["cp", "--reflink=never", str(source), str(target)], check=True)
    subprocess.run(["openssl", "dgst", "-sha256", str(target)], check=True, capture_output=True)
    hashed_s = time.monotonic()
    subprocess.run(["sync", str(target)], check=True)
    synced_s = time.monotonic()
    target.unlink()
    return hashed_s - began_s, synced_s - began_s


def _forget_cached(path: Path) -> None:
    """Drop the file from the page cache, so that the next reader reads it from disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def write(content: Content, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for piece in content.slices():
            file.write(piece)
    table_of(path)


@contextmanager
def authority() -> Iterator[Path]:
    """Certificates for the clients, unused because the hub uses plain HTTP."""
    yield Path(certifi.where())


if __name__ == "__main__":
    run_alone(measure)
