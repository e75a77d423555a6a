"""Targets of an attempt with real partial files, and no sockets."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from gglib_nb.domain.download import PlannedFile
from gglib_nb.engine.protocol import StartTransfer
from gglib_nb.engine.storage.lease import Lease
from gglib_nb.engine.storage.partial_file import PartialFile
from gglib_nb.engine.storage.paths import lease_path
from gglib_nb.engine.storage.target_check import TargetCheck
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.engine.transfer.mailbox import Mailbox
from gglib_nb.engine.transfer.stages import Cause
from gglib_nb.engine.transfer.target import Target, targets_of

COMMIT_SHA = "c" * 40
_NEVER = Event()


def a_target(folder: Path, pieces: Sequence[bytes], *, with_digests: bool = True) -> Target:
    """One file joined of these pieces, each a part of its own; pending."""
    offset_bytes, files = 0, []
    for index, piece in enumerate(pieces):
        sha256 = hashlib.sha256(piece).hexdigest() if with_digests else None
        target = str(folder / "model.gguf")
        files.append(PlannedFile(f"part{index}.gguf", len(piece), sha256, target, offset_bytes=offset_bytes))
        offset_bytes += len(piece)
    command = StartTransfer(1, "owner/name", COMMIT_SHA, tuple(files), force=False)
    return next(targets_of(command, "http://hub.example", Timeouts()))


def fetched(target: Target, mailbox: Mailbox) -> PartialFile:
    """Takes the target to `fetching`, with its lease and an open partial file."""
    target.advance(Cause.OPENED)
    target.check = TargetCheck(
        tuple(part.planned for part in target.parts),
        force=False,
        link_folders=(),
        lease=Lease(lease_path(target.path), 60),
        stop=_NEVER,
    )
    target.check.outcome()
    target.advance(Cause.LEASED)
    assert target.lease is not None
    target.partial = PartialFile(target.path, target.identities, target.size_bytes, target.lease, mailbox.wake)
    return target.partial


def write(target: Target, offset: int, data: bytes) -> None:
    """What a connection does with its bytes, and the coordinator after it."""
    assert target.partial is not None
    target.partial.write(offset, memoryview(data))
    target.partial.done.add(offset, offset + len(data))
    target.update_done()
