"""The contenders: gglib_nb and common downloaders, each as the commands that download a model and verify it.

A downloader that does not verify is followed by `openssl dgst -sha256`. Downloaders that are not installed are skipped
and reported. Knows nothing about servers or measurements.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.origin import WARM_REPO_ID

OURS = "gglib_nb"
OURS_RUNNING = "gglib_nb, engine running"
CURL, ARIA2C, HUGGINGFACE_HUB, HF_TRANSFER = "curl", "aria2c", "huggingface_hub", "hf_transfer"
VERIFIED_PEERS = (CURL, ARIA2C, HUGGINGFACE_HUB, HF_TRANSFER)

_DRIVERS = Path(__file__).parent / "drivers"
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Job:
    """What to download, from where, to where.

    Attributes:
        hub_port: of the hub on loopback.
        folder: empty; downloaders write only there.
        authority: the certificate to trust.
        paths: files of the model in the repository.
    """

    hub_port: int
    repo_id: str
    quantization: str
    paths: Sequence[str]
    folder: Path
    authority: Path

    @property
    def endpoint(self) -> str:
        """The hub's base URL."""
        return f"http://127.0.0.1:{self.hub_port}"

    @property
    def targets(self) -> list[Path]:
        """The peers' target folder."""
        return [self.folder / path for path in self.paths]

    @property
    def urls(self) -> list[str]:
        """The URLs of the files on the hub."""
        return [f"{self.endpoint}/{self.repo_id}/resolve/main/{path}" for path in self.paths]

    def environment(self) -> dict[str, str]:
        """Variables for every process: trust in the authority, no state of this machine."""
        # Python keeps its compiled modules, as it does for users.
        left_out = ("HF_", "GGLIB_", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        return kept | {
            "SSL_CERT_FILE": str(self.authority),
            "CURL_CA_BUNDLE": str(self.authority),
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.folder / "huggingface"),
            "GGLIB_CONFIG_DIR": str(self.folder / "config"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONPATH": str(_ROOT),
        }


@dataclass(frozen=True)
class Contender:
    """A downloader.

    Attributes:
        name: as in the tables.
        commands: returns the commands that download a job's files and verify them.
        measures_itself: it prints a JSON object with `wall_s`, `cpu_s` and `ended_s` for the whole run,
            because the measured part starts later than its process.
    """

    name: str
    commands: Callable[[Job], list[list[str]]]
    measures_itself: bool = False


def _ours(job: Job) -> list[list[str]]:
    return [[*_driver("gglib_nb_download"), job.repo_id, job.quantization, str(job.folder)]]


def _ours_running(job: Job) -> list[list[str]]:
    return [[*_ours(job)[0], "--warm-up", WARM_REPO_ID]]


def _curl(job: Job) -> list[list[str]]:
    command = ["curl", "-sSLf", "--cacert", str(job.authority)]
    command += ["--parallel", "--parallel-max", "16"] if len(job.urls) > 1 else []
    for url, target in zip(job.urls, job.targets, strict=True):
        command += ["-o", str(target), url]
    return [command, _digest(job)]


def _aria2c(job: Job) -> list[list[str]]:
    command = ["aria2c", "-q", "-x16", "-s16", "--file-allocation=none", f"--ca-certificate={job.authority}"]
    if len(job.urls) == 1:
        return [[*command, "-d", str(job.folder), "-o", job.paths[0], job.urls[0]], _digest(job)]
    listed = job.folder / "urls.txt"
    listed.write_text("".join(f"{url}\n  out={path}\n" for url, path in zip(job.urls, job.paths, strict=True)))
    return [[*command, "-d", str(job.folder), "-i", str(listed)], _digest(job)]


def _huggingface_hub(job: Job) -> list[list[str]]:
    return [[*_driver("huggingface_hub_download"), job.repo_id, str(job.folder)], _digest(job)]


def _hf_transfer(job: Job) -> list[list[str]]:
    pairs = [text for url, target in zip(job.urls, job.targets, strict=True) for text in (url, str(target))]
    return [[*_driver("hf_transfer_download"), *pairs], _digest(job)]


def _digest(job: Job) -> list[str]:
    return ["openssl", "dgst", "-sha256", *map(str, job.targets)]


def _driver(name: str) -> list[str]:
    return [sys.executable, "-P", str(_DRIVERS / f"{name}.py")]


_ALL: Mapping[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender(OURS, _ours),
        Contender(OURS_RUNNING, _ours_running, measures_itself=True),
        Contender(CURL, _curl),
        Contender(ARIA2C, _aria2c),
        Contender(HUGGINGFACE_HUB, _huggingface_hub),
        Contender(HF_TRANSFER, _hf_transfer),
    )
}


def contenders(*names: str) -> list[Contender]:
    """Those of these names that are installed here."""
    return [_ALL[name] for name in names if _is_installed(name)]


def missing(*names: str) -> list[str]:
    """Those of these names that are not installed."""
    return [name for name in names if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    if name in {CURL, ARIA2C}:
        return shutil.which(name) is not None
    return name != HF_TRANSFER or importlib.util.find_spec("hf_transfer") is not None
