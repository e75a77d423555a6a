"""A script that downloads files with hf_transfer: pairs of URL and target as arguments.

Pieces of 10 MiB, as huggingface_hub used it; 16 connections, like the others.
"""

import sys

import hf_transfer  # type: ignore[import-untyped]


def main() -> None:
    arguments = iter(sys.argv[1:])
    for url, target in zip(arguments, arguments, strict=True):
        hf_transfer.download(url, target, max_files=16, chunk_size=10 * 1024**2, parallel_failures=3, max_retries=5)


if __name__ == "__main__":
    main()
