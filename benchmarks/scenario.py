"""Common to all scenarios: sizes, the folder, rounds, and the command line.

In a round every downloader runs once, so that changes on the machine affect all.
"""

import argparse
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.contenders import OURS, OURS_RUNNING, Contender, Job
from benchmarks.origin import Origin
from benchmarks.processes import Usage, run_all
from benchmarks.report import MIB, Findings

_MEMORY_FOLDER = Path("/dev/shm")
_ROOM_BYTES = 12 * 1024**3


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        is_quick: small files and one round: shows that everything works, the values mean nothing.
        rounds: runs of each downloader.
        folder: where files are served from and downloaded to.
    """

    is_quick: bool
    rounds: int
    folder: Path

    def mib(self, full: int, quick: int) -> int:
        """A size in bytes from two in MiB."""
        return (quick if self.is_quick else full) * MIB

    def seconds(self, full: float, quick: float) -> float:
        """A duration."""
        return quick if self.is_quick else full

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """A temporary folder."""
        with tempfile.TemporaryDirectory(prefix="gglib-bench-", dir=self.folder) as folder:
            yield Path(folder)


def job_of(origin: Origin, folder: Path, hub_port: int | None = None) -> Job:
    """The model of an origin, to be downloaded to a folder."""
    return Job(
        hub_port=hub_port or origin.hub_port,
        repo_id=origin.repo_id,
        quantization=origin.quantization,
        paths=origin.paths,
        folder=folder,
        authority=origin.nginx.authority,
    )


def measure_once(contender: Contender, origin: Origin, folder: Path, hub_port: int | None = None) -> Usage:
    """One download to a new folder below `folder`, which is deleted after its files are checked."""
    target = folder / "download"
    target.mkdir()
    job = job_of(origin, target, hub_port)
    try:
        usage = run_all(contender.commands(job), job.environment())
        _check(contender, job, origin)
    finally:
        shutil.rmtree(target)
    if contender.measures_itself:
        return replace(usage, **json.loads(usage.output.splitlines()[-1]))
    return usage


def measure_in_turn(
    chosen: Sequence[Contender],
    rounds: int,
    measure: Callable[[Contender, int], Usage],
    slow: Sequence[str] = (),
) -> dict[str, list[Usage]]:
    """Rounds of one run for each; those in `slow` run only once."""
    usages: dict[str, list[Usage]] = {contender.name: [] for contender in chosen}
    for number in range(rounds):
        for contender in chosen:
            if number == 0 or contender.name not in slow:
                usages[contender.name].append(measure(contender, number))
    return usages


def _check(contender: Contender, job: Job, origin: Origin) -> None:
    """Whether the model is complete, and its digest if no other check covers it.

    Raises:
        RuntimeError: it is not.
    """
    is_ours = contender.name in {OURS, OURS_RUNNING}
    folder = job.folder / "models" / job.repo_id if is_ours else job.folder
    for path, sha256 in zip(origin.paths, origin.sha256, strict=True):
        with (folder / path).open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != sha256:
            raise RuntimeError(f"{contender.name} delivered wrong bytes for {path}")


def options_of(arguments: argparse.Namespace) -> Options:
    """The options given on the command line."""
    if arguments.without_sha:
        # OPENSSL_ia32cap(3): bit 29 of leaf 7's EBX. Every downloader here hashes with OpenSSL.
        os.environ["OPENSSL_ia32cap"] = ":~0x20000000"  # noqa: SIM112 - its name
    return Options(
        is_quick=arguments.quick,
        rounds=arguments.rounds or (1 if arguments.quick else 5),
        folder=arguments.folder or default_folder(),
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options all scenarios take."""
    parser.add_argument(
        "--quick", action="store_true", help="small and once: shows that it works, without meaningful values"
    )
    parser.add_argument("--rounds", type=int, help="runs of each downloader; default 5, 1 with --quick")
    parser.add_argument("--without-sha", action="store_true", help="as on a CPU without SHA instructions")
    parser.add_argument(
        "--folder", type=Path, help="where files are written; default a memory disk with enough space, else /tmp"
    )


def default_folder() -> Path:
    """A memory disk if one has enough space, so that the disk is not measured."""
    has_room = _MEMORY_FOLDER.is_dir() and shutil.disk_usage(_MEMORY_FOLDER).free >= _ROOM_BYTES
    return _MEMORY_FOLDER if has_room else Path(tempfile.gettempdir())


def run_alone(measure: Callable[[Options], Findings]) -> None:
    """The command line of one scenario: prints its findings."""
    parser = argparse.ArgumentParser(description=measure.__doc__)
    add_options(parser)
    print(measure(options_of(parser.parse_args())).markdown())
