"""The embedded hub: a Hub-compatible server on loopback, with generated or real GGUF repositories.

It is the default of the quickstart where there is no internet, and the test double whose faults are knobs.
It imitates the real Hub from the outside: it imports nothing else of this package, nothing imports it, and the
real `huggingface_hub` client working against it is the proof that it does.
"""

from gglib_nb.demo.content import Content, bytes_content, file_content, noise_content
from gglib_nb.demo.control import ControlServer
from gglib_nb.demo.fault_kinds import (
    BadToken,
    BareEtag,
    CaptivePortal,
    Cut,
    Direct,
    Disabled,
    ExpiredUrl,
    Gzipped,
    HangUp,
    IgnoreRange,
    Latency,
    ListedSize,
    LongBody,
    MaskedXetHash,
    NoContentLength,
    NoLinkedHeaders,
    RangeNotSatisfiable,
    RateLimited,
    Redirect,
    ShortBody,
    Stall,
    Status,
    StorageAt,
    Then,
    WrongBytes,
    WrongContentRange,
)
from gglib_nb.demo.faults import Fault, PlacedFault
from gglib_nb.demo.generated import generated_repositories
from gglib_nb.demo.hub import DemoHub, edge_lottery
from gglib_nb.demo.refusals import GRANTED_TOKEN, PENDING_TOKEN, PLAIN_TOKEN, REJECTED_TOKEN
from gglib_nb.demo.repositories import DemoFile, DemoRepository, repositories_from_folder, repository_from_folder
from gglib_nb.demo.request_log import RequestRecord

__all__ = [
    "GRANTED_TOKEN",
    "PENDING_TOKEN",
    "PLAIN_TOKEN",
    "REJECTED_TOKEN",
    "BadToken",
    "BareEtag",
    "CaptivePortal",
    "Content",
    "ControlServer",
    "Cut",
    "DemoFile",
    "DemoHub",
    "DemoRepository",
    "Direct",
    "Disabled",
    "ExpiredUrl",
    "Fault",
    "Gzipped",
    "HangUp",
    "IgnoreRange",
    "Latency",
    "ListedSize",
    "LongBody",
    "MaskedXetHash",
    "NoContentLength",
    "NoLinkedHeaders",
    "PlacedFault",
    "RangeNotSatisfiable",
    "RateLimited",
    "Redirect",
    "RequestRecord",
    "ShortBody",
    "Stall",
    "Status",
    "StorageAt",
    "Then",
    "WrongBytes",
    "WrongContentRange",
    "bytes_content",
    "edge_lottery",
    "file_content",
    "generated_repositories",
    "noise_content",
    "repositories_from_folder",
    "repository_from_folder",
]
