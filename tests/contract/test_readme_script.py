"""The README's script works as a separate program with the hub set in the environment."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import isolated
from tests.support.faulty_hub import FaultyHub

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.slow
def test_the_readmes_script_downloads_from_the_hub_in_the_environment(hub: FaultyHub, tmp_path: Path) -> None:
    [script] = re.findall(r"In a script:\n\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    program = tmp_path / "script.py"
    program.write_text(script.replace("owner/name-GGUF", "demo/small-GGUF"))

    ended = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=isolated(os.environ, tmp_path, hub.url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    [path] = [Path(line) for line in ended.stdout.splitlines()]
    assert path.is_relative_to(tmp_path / "models" / "demo" / "small-GGUF")
    assert path.stat().st_size == 300_000
