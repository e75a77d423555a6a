"""Feeds a million broken GGUF headers to the reader: each must be read or refused, quickly and in little memory.

    python benchmarks/fuzz_gguf_header.py --inputs 1000000 real.gguf ...

Inputs are mutations of the given files (their first 64 KiB, declared as part of a file of any size) and of a header
made here. A run is determined by its seed. It ends at the first input that raises anything but `GgufError`.
"""

import argparse
import random
import re
import resource
import struct
import sys
import time
from collections import Counter
from pathlib import Path

from gglib_nb.domain.gguf import read_header
from gglib_nb.domain.gguf_header import header_facts
from gglib_nb.domain.memory import estimate_memory
from gglib_nb.errors import GgufError

MEMORY_BYTES = 512 * 1024**2
SLOWEST_ALLOWED_S = 10.0
ODD_NUMBERS = (0, 1, 7, 8, 9, 13, 127, 128, 255, 2**16, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def made_header() -> bytes:
    """One key of every kind, and two tensors."""
    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("llama.block_count") + struct.pack("<II", 4, 32),
        text("llama.attention.head_count") + struct.pack("<II", 4, 8),
        text("llama.attention.head_count_kv") + struct.pack("<IIQII", 9, 4, 2, 8, 4),
        text("llama.embedding_length") + struct.pack("<II", 4, 1024),
        text("llama.rope.freq_base") + struct.pack("<If", 6, 1e6),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3) + text("a") + text("bc") + text(""),
        text("nested") + struct.pack("<IIQIQ", 9, 9, 1, 0, 2) + b"xy",
        text("flag") + struct.pack("<IB", 7, 1),
        text("long") + struct.pack("<Iq", 11, -1),
        text("double") + struct.pack("<Id", 12, 0.5),
    ]
    tensors = [text(name) + struct.pack("<IQQIQ", 2, 64, 32, 0, 0) for name in ("token_embd.weight", "output.weight")]
    return b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs + tensors)


def mutated(seed: bytes, rng: random.Random) -> bytes:
    content = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(content)) if rng.random() < 0.5 else rng.randrange(min(len(content), 256))
        match rng.randrange(5):
            case 0:
                content[at] = rng.randrange(256)
            case 1:
                content[at : at + 8] = struct.pack("<Q", rng.choice(ODD_NUMBERS))
            case 2:
                content[at : at + 4] = struct.pack("<I", rng.choice(ODD_NUMBERS) % 2**32)
            case 3:
                del content[at : at + rng.randrange(1, 64)]
            case _:
                content[at:at] = content[at // 2 : at // 2 + rng.randrange(1, 64)]
        if len(content) < 2:
            break
    return bytes(content)


def outcome(content: bytes, size_bytes: int) -> str:
    """The result of one input; anything but a header or a `GgufError` ends the run."""
    try:
        header = read_header(
            lambda offset, length: content[offset : offset + length], size_bytes, window_bytes=4096, limit_bytes=2**20
        )
        header_facts(header)
        estimate_memory(header, size_bytes, 8192)
    except GgufError as error:
        return re.sub(r"\d+", "N", str(error).split(":")[0])[:60]
    return "read" if header.is_whole else "read in part"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    rng = random.Random(options.seed)
    seeds = [made_header()] * 4 + [file.read_bytes()[: 64 * 1024] for file in options.files]
    outcomes: Counter[str] = Counter()
    slowest_s = 0.0
    started = time.perf_counter()
    for _ in range(options.inputs):
        content = mutated(rng.choice(seeds), rng)
        size_bytes = rng.choice((len(content), 2**22, 2**40))
        before = time.perf_counter()
        outcomes[outcome(content, size_bytes)] += 1
        slowest_s = max(slowest_s, time.perf_counter() - before)
    elapsed_s = time.perf_counter() - started
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{options.inputs} inputs in {elapsed_s:.0f} s, slowest {slowest_s * 1000:.0f} ms, peak memory {peak_mib:.0f} MiB"
    )
    for what, count in outcomes.most_common():
        print(f"{count:>9}  {what}")
    return 0 if slowest_s < SLOWEST_ALLOWED_S else 1


if __name__ == "__main__":
    sys.exit(main())
