"""Imports point only to lower layers: the layers in pyproject.toml, checked by import-linter."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_imports_point_only_to_lower_layers() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]

    linter = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert linter.returncode == 0, linter.stdout + linter.stderr
