"""The operations that look before anything is queued: what a repository offers, and which repositories there are."""

from contextlib import suppress
from dataclasses import replace
from functools import cached_property

from gglib_nb.domain.listing import RepoSummary
from gglib_nb.domain.memory import CacheType
from gglib_nb.domain.plan import RepoPlan
from gglib_nb.engine.storage.on_disk import present_bytes
from gglib_nb.errors import CatalogError
from gglib_nb.manager.finding import judged, pointing_to_children
from gglib_nb.manager.machine_memory import machine_memory
from gglib_nb.manager.parts import Operations, operation
from gglib_nb.manager.planning import Planner


class AdviceOperations(Operations):
    """What can be asked before something is queued."""

    @operation
    def plan(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        context: int | None = None,
        cache_type: CacheType = "f16",
    ) -> RepoPlan:
        """What a repository offers and what each choice would cost; queues nothing.

        Args:
            repo_id: `owner/name`.
            quantization: Only this variant; None shows them all.
            revision: Branch, tag or commit; None is the default branch.
            context: Tokens for which memory is estimated; None is 8192.
            cache_type: How llama.cpp stores keys and values: `f16`, `q8_0` or `q4_0`.

        Raises:
            RequestError: The quantization names no variant, or several.
            HubError: The Hub's answer is no, or there is none.
        """

        def plan() -> RepoPlan:
            with pointing_to_children(parts.hub, repo_id):
                return self._planner.plan(repo_id, quantization, revision, context, parts.queue.snapshot, cache_type)

        parts = self._parts
        found = parts.at_hub(plan)
        return replace(found, page_url=f"{parts.hub.endpoint}/{found.repo_id}")

    @operation
    def search(
        self,
        words: str = "",
        *,
        max_parameters: int | None = None,
        licence: str | None = None,
        task: str | None = None,
        sort: str = "downloads",
        limit: int = 20,
    ) -> list[RepoSummary]:
        """The Hub's repositories with GGUF files that match the words, highest or newest first.

        With each, whether it likely fits this machine and whether a model of it is here. Arguments are those of
        `HubClient.search`.

        Raises:
            RequestError: There is no such order.
            HubError: The Hub's answer is no, or there is none.
        """
        parts = self._parts
        found = parts.at_hub(
            parts.hub.search, words, max_parameters=max_parameters, licence=licence, task=task, sort=sort, limit=limit
        )
        here: frozenset[str] = frozenset()
        with suppress(CatalogError):
            here = frozenset(model.id.repo_id.casefold() for model in parts.catalog.models())
        return judged(found, self._planner.memory, here, parts.hub.endpoint)

    @cached_property
    def _planner(self) -> Planner:
        parts = self._parts
        return Planner(parts.hub, parts.config.models_directory, machine_memory, present_bytes, parts.catalog.models)
