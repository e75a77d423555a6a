"""The environment of test processes, without the user's hub, tokens, proxies, models or notebooks."""

from collections.abc import Mapping
from pathlib import Path

_OWN = ("HF_", "HUGGING", "GGLIB_", "JUPYTER", "JPY_", "IPYTHON", "PYTHONSTARTUP")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_CERTIFICATES = ("ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle", "curl_ca_bundle")


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The same environment without variables that point to the user's state or the internet.

    Xet is off: the tests' hub is plain HTTP, and importing it writes logs.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_OWN) and name.lower() not in (*_PROXIES, *_CERTIFICATES)
    }
    return kept | {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}


def isolated(environment: Mapping[str, str], folder: Path, endpoint: str) -> dict[str, str]:
    """An environment for a child process with its whole state below `folder` and the hub `endpoint`."""
    return scrubbed(environment) | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "huggingface"),
        "GGLIB_MODELS_DIR": str(folder / "models"),
        "GGLIB_STATE_DIR": str(folder / "state"),
        "GGLIB_CONFIG_DIR": str(folder / "config"),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "jupyter" / "config"),
        "JUPYTER_DATA_DIR": str(folder / "jupyter" / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "jupyter" / "runtime"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_PLATFORM_DIRS": "1",
        # Suppresses the debugger's frozen-modules warning.
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
