"""gglib_nb is installed with a host's pinned packages: none of them is upgraded. Run by `.ci/run hosts` in each environment."""

import json
import os
import subprocess
import sys
from importlib import metadata

import pytest

PINS = [pin.split("==") for pin in os.environ.get("PINS_OF_THE_HOST", "").split()]
needs_pins = pytest.mark.skipif(
    not PINS, reason="this environment pins nothing; `.ci/run hosts` creates environments with pins"
)


@needs_pins
def test_packages_pinned_by_the_host_are_not_changed() -> None:
    # `7.34` is 7.34.0 as well.
    changed = {
        name: metadata.version(name) for name, pin in PINS if not f"{metadata.version(name)}.0.0".startswith(f"{pin}.")
    }

    assert changed == {}


@needs_pins
def test_installing_over_the_pins_upgrades_none_of_them() -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-"]
    wheel = os.environ["WHEEL_FOR_THE_HOST"]
    report = json.loads(subprocess.run([*command, wheel], capture_output=True, text=True, check=True).stdout)

    assert {one["metadata"]["name"] for one in report["install"]} <= {"gglib-nb"}


def test_the_host_meets_the_requirements_of_gglib_nb() -> None:
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)

    assert [line for line in checked.stdout.splitlines() if line.startswith("gglib-nb ")] == []
