"""Hosts that pin their packages: tools/hosts.py [colab|sagemaker|lowest|newest …], all of them by default.

For each it creates an environment in .hosts/ with the host's versions, installs this checkout's wheel into it as a user
does, and runs the tests of kernel, magic, panel messages and downloads there. The pins are in tests/hosts/; `lowest`
has the oldest version of each dependency that pyproject.toml allows, `newest` the newest of each.

Runs in the development environment; needs the package index. If the Python of a host is not installed, this
environment's own is used instead.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOLDER = ROOT / ".hosts"
# The Python of each; None: the newest installed.
PYTHONS: dict[str, str | None] = {"colab": "3.13", "sagemaker": "3.12", "lowest": "3.11", "newest": None}
TESTS = (
    "tests/hosts",
    "tests/notebook/test_magic_kernel.py",
    "tests/notebook/test_magic_lines.py",
    "tests/notebook/test_kernel_tab.py",
    "tests/notebook/test_panel_wire.py",
    "tests/contract/test_hub_client.py",
    "tests/contract/test_readme_script.py",
    "tests/contract/test_manager_sync.py",
)
_PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")
_PYTEST = (
    *("-m", "pytest", "-p", "anyio", "-p", "timeout", "-p", "hypothesispytest", "-q"),
    *("-m", "not slow and not browser and not network", "-o", "filterwarnings=default", "--disable-warnings"),
)


def call(*command: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output and errors together are its `stdout`."""
    return subprocess.run(  # noqa: S603  # the commands of this module
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def interpreters(version: str) -> list[str]:
    """Commands and paths of that Python: on PATH, or where pyenv or uv install it."""
    found = [shutil.which(f"python{version}", path=folder) for folder in os.get_exec_path()]
    if shutil.which("pyenv"):
        root = call("pyenv", "root").stdout.strip()
        found += [str(path) for path in sorted(Path(root).glob(f"versions/{version}*/bin/python{version}"))]
    if shutil.which("uv"):
        found.append(call("uv", "python", "find", "--offline", version).stdout.strip())
    return [path for path in found if path and Path(path).is_file()]


def find_python(version: str) -> str | None:
    """A Python of that version that starts and can create environments."""
    check = f"import sys, ensurepip, venv; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"
    for path in interpreters(version):
        if call(path, "-c", check).returncode == 0:
            return path
    return None


def python_of(host: str) -> tuple[str, str]:
    """The interpreter for a host, and what to say about it."""
    wanted = PYTHONS[host]
    if wanted is None:
        found = next(filter(None, (find_python(version) for version in ("3.14", "3.13", "3.12"))), sys.executable)
        return found, ""
    if (path := find_python(wanted)) is not None:
        return path, ""
    return sys.executable, f" (there is no Python {wanted} here)"


def pins_of(host: str) -> list[str]:
    """The environment's packages before gglib_nb is installed."""
    if host == "lowest":
        return [re.sub(r">=([^,;]+).*", r"==\1", requirement) for requirement in PROJECT["dependencies"]]
    if host == "newest":
        return []
    lines = (ROOT / "tests" / "hosts" / f"{host}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_tools() -> list[str]:
    """The requirements of the tests that run here."""
    wanted = {"pytest", "pytest-timeout", "hypothesis"}
    return [one for one in PROJECT["optional-dependencies"]["dev"] if re.split(r"[<>=]", one)[0] in wanted]


def build_wheel() -> str:
    """The path of this checkout's wheel."""
    folder = FOLDER / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    built = call(sys.executable, *_PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), ".")
    if built.returncode:
        raise SystemExit(built.stdout)
    return str(next(folder.glob("*.whl")))


def run(host: str, wheel: str) -> tuple[bool, str]:
    """Create the environment of a host and run the tests in it; returns whether all passed, and the output."""
    start_s = time.monotonic()
    base, remark = python_of(host)
    place = FOLDER / host
    python = str(place / "bin" / "python")
    pins = pins_of(host)
    environment = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PINS_OF_THE_HOST": " ".join(pins),
        "WHEEL_FOR_THE_HOST": wheel,
    }
    for command in (
        [base, "-m", "venv", "--clear", str(place)],
        [python, *_PIP, "install", *pins, *test_tools()],
        [python, *_PIP, "install", wheel],
        [python, *_PYTEST, *TESTS],
    ):
        done = call(*command, environment=environment)
        if done.returncode:
            break
    said = done.stdout.strip()
    version = call(python, "-V").stdout.strip()
    text = said if done.returncode else said.splitlines()[-1]
    return done.returncode == 0, f"--- {host}: {version}{remark}, {time.monotonic() - start_s:.0f} s\n{text}"


def main(hosts: list[str]) -> int:
    """Run the hosts, two at a time; the number of those that failed."""
    if unknown := [host for host in hosts if host not in PYTHONS]:
        print(f"no host named {unknown[0]}; there are: {' '.join(PYTHONS)}", file=sys.stderr)
        return 2
    wheel = build_wheel()
    failed = 0
    with ThreadPoolExecutor(2) as pool:
        for is_good, text in pool.map(lambda host: run(host, wheel), hosts or PYTHONS):
            print(text, flush=True)
            failed += not is_good
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
