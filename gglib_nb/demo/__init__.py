"""The embedded hub: a Hub-compatible server on loopback, with generated or real GGUF repositories.

The quickstart uses it by default if there is no internet; the tests' faulty hub is a subclass of it.
It imitates the real Hub from the outside: it imports nothing else of this package, nothing imports it, and the
real `huggingface_hub` client proves that it is compatible.
"""

from gglib_nb.demo.content import Content, bytes_content, file_content, noise_content
from gglib_nb.demo.generated import generated_repositories
from gglib_nb.demo.hub import DemoHub
from gglib_nb.demo.refusals import GRANTED_TOKEN
from gglib_nb.demo.repositories import DemoFile, DemoRepository, repositories_from_folder

__all__ = [
    "GRANTED_TOKEN",
    "Content",
    "DemoFile",
    "DemoHub",
    "DemoRepository",
    "bytes_content",
    "file_content",
    "generated_repositories",
    "noise_content",
    "repositories_from_folder",
]
