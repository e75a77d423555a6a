"""A script that downloads the GGUF files of one repository with huggingface_hub over plain HTTP."""

import sys

from huggingface_hub import hf_hub_download, list_repo_files, snapshot_download


def main() -> None:
    repo_id, folder = sys.argv[1:]
    names = list_repo_files(repo_id)
    if len(names) == 1:
        hf_hub_download(repo_id, names[0], local_dir=folder)
    else:
        snapshot_download(repo_id, local_dir=folder)


if __name__ == "__main__":
    main()
