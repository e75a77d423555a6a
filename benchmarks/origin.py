"""The server side of a benchmark: files, nginx as the CDN (TLS 1.3), and the embedded hub for everything else.

The hub serves listings and resolves as usual; only its redirects lead to nginx, or to a slow line in front of it. Knows
no downloaders and measures nothing.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from gglib_nb.demo import DemoFile, DemoRepository, file_content
from gglib_nb.demo.content import Content
from gglib_nb.demo.gguf_writer import Tensor, Value, gguf_content
from gglib_nb.demo.llama import split_metadata
from gglib_nb.demo.messages import Request, Response
from tests.support.faulty_hub import FaultyHub

REPO_ID = "bench/model-GGUF"
WARM_REPO_ID = "bench/warm-GGUF"
QUANTIZATION = "Q8_0"
_WARM_BYTES = 64 * 1024
_START_TIMEOUT_S = 10

_NGINX_CONFIG = """
{user}
daemon off;
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    log_format sent '$connection $body_bytes_sent';
    access_log {folder}/access.log sent;
    client_body_temp_path {folder}/temp;
    proxy_temp_path {folder}/temp;
    fastcgi_temp_path {folder}/temp;
    uwsgi_temp_path {folder}/temp;
    scgi_temp_path {folder}/temp;
    default_type application/octet-stream;
    keepalive_requests 1000000;
    output_buffers 2 256k;
    server {{
        listen 127.0.0.1:{port} ssl backlog=1024;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.key;
        ssl_protocols TLSv1.3;
        root {files};
    }}
}}
"""
_SERVER_EXTENSIONS = "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n"


class Nginx:
    """nginx serving a folder over TLS 1.3, with its own temporary certificate authority.

    Args:
        folder: where its configuration, certificates and logs go.
        files: the served files.

    Attributes:
        port: where it listens on loopback.
        authority: the certificate to trust.
    """

    def __init__(self, folder: Path, files: Path) -> None:
        self.port = _free_port()
        self.authority = folder / "authority.pem"
        self._folder = folder
        self._files = files

    def __enter__(self) -> Self:
        _make_certificates(self._folder)
        user = "user root;" if os.geteuid() == 0 else ""
        config = self._folder / "nginx.conf"
        config.write_text(_NGINX_CONFIG.format(user=user, folder=self._folder, port=self.port, files=self._files))
        command = [nginx_program(), "-p", str(self._folder), "-c", str(config), "-e", str(self._folder / "error.log")]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self._wait_until_it_listens()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)

    def bytes_sent(self) -> int:
        """Body bytes of all finished responses, including cut ones."""
        lines = (self._folder / "access.log").read_text(encoding="ascii").splitlines()
        return sum(int(line.split()[1]) for line in lines)

    def _wait_until_it_listens(self) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"nginx did not start: {(self._folder / 'error.log').read_text()}")
            time.sleep(0.02)


@dataclass
class _ServedByNginx:
    """Turns the hub's redirects to its own CDN into redirects to nginx. It has the interface of a fault."""

    port: int

    def apply(self, request: Request, response: Response) -> Response:  # noqa: ARG002  # the form of a fault
        """Change the location if the response is a redirect to a file's bytes."""
        if response.status != 302 or response.subject is None:
            return response
        path = f"{response.subject.repo_id}/{response.subject.file.path}"
        return response.having(Location=f"https://127.0.0.1:{self.port}/{path}?Expires=9999999999&Signature=none")


class Origin:
    """A hub, its CDN and one model of a given size.

    Args:
        folder: contains all files; removed at the end.
        sizes_bytes: the size of each of its shards; multiples of 32.

    Attributes:
        nginx: the CDN.
        repo_id, quantization: the model to request.
        paths: the model's files in the repository.
    """

    def __init__(self, folder: Path, sizes_bytes: Sequence[int]) -> None:
        self.repo_id = REPO_ID
        self.quantization = QUANTIZATION
        self.size_bytes = sum(sizes_bytes)
        self._folder = folder / "origin"
        self._sizes_bytes = sizes_bytes
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        files = self._folder / "files"
        model = _made_repository(files, REPO_ID, self._sizes_bytes)
        warm = _made_repository(files, WARM_REPO_ID, [_WARM_BYTES])
        self.paths = [file.path for file in model.files]
        self.sha256 = [file.content.sha256 for file in model.files]  # also loads all bytes into the page cache
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self.nginx = stack.enter_context(Nginx(self._folder, files))
            self._redirects = _ServedByNginx(self.nginx.port)
            self._hub = stack.enter_context(FaultyHub([model, warm]))
            self._hub.faults.add(self._redirects, origin="hub", times=None)
            self._stack = stack.pop_all()
        self.hub_port = int(self._hub.url.rpartition(":")[2])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def redirect_to(self, port: int) -> None:
        """Send downloaders to a port of loopback that leads to nginx."""
        self._redirects.port = port


def nginx_program() -> str:
    """The path of nginx, which Debian keeps off the path of other users than root."""
    return shutil.which("nginx") or "/usr/sbin/nginx"


def _made_repository(files: Path, repo_id: str, sizes_bytes: Sequence[int]) -> DemoRepository:
    folder = files / repo_id
    folder.mkdir(parents=True)
    demo_files = []
    for name, content in _shards(repo_id.partition("/")[2].removesuffix("-GGUF"), sizes_bytes):
        with (folder / name).open("wb") as file:
            for piece in content.slices():
                file.write(piece)
        demo_files.append(DemoFile(name, file_content(folder / name)))
    return DemoRepository(repo_id=repo_id, files=demo_files)


def _shards(stem: str, sizes_bytes: Sequence[int]) -> Iterator[tuple[str, Content]]:
    count = len(sizes_bytes)
    for index, size_bytes in enumerate(sizes_bytes):
        metadata: dict[str, Value] = {"general.architecture": "llama", "general.name": stem, "general.file_type": 7}
        if count > 1:
            metadata |= split_metadata(index, count, count)
        suffix = f"-{index + 1:05}-of-{count:05}" if count > 1 else ""
        yield f"{stem}-{QUANTIZATION}{suffix}.gguf", _gguf_of(size_bytes, metadata, f"{stem} {index}")


def _gguf_of(size_bytes: int, metadata: dict[str, Value], seed: str) -> Content:
    """A file of exactly this size: its header and one tensor of noise."""
    header_bytes = gguf_content(metadata, [Tensor(f"{seed}.weight", (32,), "I8")], seed).size_bytes - 32
    return gguf_content(metadata, [Tensor(f"{seed}.weight", (size_bytes - header_bytes,), "I8")], seed)


def _make_certificates(folder: Path) -> None:
    authority = ["-x509", "-subj", "/CN=benchmark authority", "-keyout", "authority.key", "-out", "authority.pem"]
    authority += ["-addext", "keyUsage=critical,keyCertSign", "-days", "2"]
    _openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", *authority)
    request = ["-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr"]
    _openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", *request)
    (folder / "server.ext").write_text(_SERVER_EXTENSIONS, encoding="ascii")
    signed = ["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-extfile", "server.ext"]
    _openssl(folder, "x509", "-req", "-in", "server.csr", "-days", "2", "-out", "server.pem", *signed)


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
