"""What an import loads: libraries that take tens of milliseconds are loaded when an operation needs them."""

import json
import subprocess
import sys

import pytest

HEAVY = ("asyncio", "httpx", "huggingface_hub", "importlib.metadata", "IPython", "psutil", "ssl", "tqdm", "http.client")


def loaded_by(statement: str) -> set[str]:
    code = f"import json, sys\n{statement}\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    return set(json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout))


@pytest.mark.parametrize("statement", ["import gglib_nb", "from gglib_nb import DownloadManager"])
def test_an_import_loads_no_heavy_library(statement: str) -> None:
    assert loaded_by(statement) == set()
