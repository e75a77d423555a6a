"""From partial files that lie about to the requests that go on with them.

What a file belongs to is read from its place, `<owner>/<repo>/<path in repo>`; of a split model the files that are there
are one request. It looks at the disk and changes nothing.
"""

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from gglib_nb.domain.download import DownloadRequest
from gglib_nb.domain.variants import variants_of
from gglib_nb.engine.storage.leftovers import leftovers


def partial_requests(
    models_directory: Path, wanted: Collection[str], targets: Collection[str] | None = None
) -> list[DownloadRequest]:
    """A request for every model of which partial files lie in the models folder, by path.

    Args:
        models_directory: The folder.
        wanted: Targets that are in a queue already; those are left out, and so is what a process is at.
        targets: Only partial files of these targets; None: all.
    """
    paths: dict[str, list[str]] = defaultdict(list)
    for one in leftovers(models_directory):
        if not one.is_in_use and one.target not in wanted and (targets is None or one.target in targets):
            owner, name, *rest = Path(one.target).relative_to(models_directory.absolute()).parts
            paths[f"{owner}/{name}"].append("/".join(rest))
    return [
        DownloadRequest(repo_id, variant.files[0])
        for repo_id, found in paths.items()
        for variant in variants_of(found).variants
    ]
