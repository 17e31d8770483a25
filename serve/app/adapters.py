"""The adapter version that a server answers with: that of the run folder, also when it changes between requests.

Every server looks at its run folder several times a second. So all servers of a run take over a version that one of
them or the command line has chosen. Weights, temperature, stack of rankers and prepared data change together between
requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from ...decode.adapters import (
    ADAPTERS,
    AdapterVersion,
    adapter_versions,
    current_adapter,
    current_name,
    previous_name,
    use_adapter,
)
from ...errors import ModelError, WhereuponError
from ...files import read_object
from ...rankers.blend import POOLS
from ...recommend.recommender import Recommender
from ..launcher.merged import MANIFEST, merged_weights

if TYPE_CHECKING:
    from .service import Service

WATCH_S = 0.1
"""Seconds between two looks at the run folder."""
Mark = tuple[str | None, int, int]
_log = logging.getLogger(__name__)


def mark_of(run: Path) -> Mark:
    """What is another one after another version was chosen, or the one in use was pooled anew by `calibrate`."""
    name = current_name(run)
    return name, _changed(run / ADAPTERS / "CURRENT"), _changed(run / ADAPTERS / str(name) / POOLS)


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


class Adapters:
    """The versions of the adapter for a `Service`, which answers with one of them.

    `mark` is that of the run folder before the service was loaded from it.
    """

    def __init__(self, service: Service, mark: Mark) -> None:
        self._service, self._mark, self._run = service, mark, service.config.run
        self._changing = asyncio.Lock()
        # Weights of a server in use are locked, so that no other one removes them.
        self._kept = contextlib.ExitStack()

    @property
    def served(self) -> str:
        """The version that answers."""
        return self._service.adapter

    @property
    def previous(self) -> str | None:
        """The version that `rollback` goes back to."""
        return previous_name(self._run)

    def versions(self) -> list[AdapterVersion]:
        """All of the run folder."""
        return adapter_versions(self._run)

    async def check_weights(self) -> None:
        """Take the right weights if another version was chosen while those of vLLM were merged and loaded."""
        recommender, model_config = self._service.recommender, self._service.client.model_config
        manifest = Path(getattr(model_config, "model", "")) / MANIFEST
        if manifest.is_file() and read_object(manifest)["adapter_hash"] != recommender.card["adapter_hash"]:
            await self._serve(recommender)

    async def follow(self) -> None:
        """Take over what the run folder says, again and again.

        A version that cannot be served is logged once, and the one before it stays.
        """
        while True:
            await asyncio.sleep(WATCH_S)
            if mark_of(self._run) != self._mark:
                try:
                    await self.catch_up()
                except WhereuponError as error:
                    _log.error("Adapter %s stays in use. %s", self.served, error)
                except Exception:  # the next version may be well
                    _log.exception("Adapter %s stays in use.", self.served)

    async def catch_up(self) -> None:
        """Take over what the run folder says, if that has changed. Raises WhereuponError for what cannot be served."""
        async with self._changing:
            mark = mark_of(self._run)
            if mark != self._mark:
                self._mark = mark
                adapter = await asyncio.to_thread(current_adapter, self._run)
                await self._serve(await asyncio.to_thread(self._service.recommender.with_adapter, adapter))

    async def promote(self, name: str) -> None:
        """Serve a version of the run folder from now on, and let all servers of the run do so.

        Raises HTTPException 404 for a version that is not there, 409 for one whose training has not ended, and
        WhereuponError for one that does not belong to the run. Then the version before stays in use.
        """
        async with self._changing:
            version = _finished(await asyncio.to_thread(self.versions), name)
            recommender = await asyncio.to_thread(self._service.recommender.with_adapter, version.folder)
            before = self.served
            try:  # the others begin when this server does, so that all change at about the same time
                await self._serve(recommender, partial(use_adapter, self._run, version.name))
            except ModelError:
                await asyncio.to_thread(use_adapter, self._run, before)
                raise
            mark = mark_of(self._run)
            if mark[0] == version.name:  # else somebody has chosen another one since, and `follow` takes it over
                self._mark = mark

    async def rollback(self) -> None:
        """Promote the version that was used before. Raises as `promote`, 404 also where there was none."""
        before = self.previous
        if before is None:
            raise HTTPException(404, "No other version of the adapter was in use before; promote one by its name.")
        await self.promote(before)

    def close(self) -> None:
        """Let others remove the weights."""
        self._kept.close()

    async def _serve(self, recommender: Recommender, announce: Callable[[], object] = lambda: None) -> None:
        """Answer with a recommender; its weights are merged if need be, while requests go on. `announce` is called in a
        thread when all is ready for the change."""
        kept = contextlib.ExitStack()
        try:
            folder = await asyncio.to_thread(self._weights, recommender, kept)
            await asyncio.to_thread(announce)
            await self._service.change_to(recommender, folder)
        except BaseException:
            kept.close()
            raise
        self._kept.close()
        self._kept = kept

    def _weights(self, recommender: Recommender, kept: contextlib.ExitStack) -> Path:
        dtype = str(self._service.client.model_config.dtype).removeprefix("torch.")
        return kept.enter_context(merged_weights(self._service.config, dtype, recommender.adapter)).folder


def _finished(versions: list[AdapterVersion], name: str) -> AdapterVersion:
    found = next((version for version in versions if version.name == name.zfill(4) and version.card), None)
    if found is None:
        usable = ", ".join(version.name for version in versions if version.card)
        raise HTTPException(404, f"There is no adapter {name[:40]!r} in this run; expected one of {usable}.")
    if not found.complete:
        raise HTTPException(409, f"The training of adapter {found.name} has not ended; promote it when it has.")
    return found


def card_of(version: AdapterVersion, served: str) -> dict[str, Any]:
    """The fields of `schemas.AdapterCard`."""
    return {
        "version": version.name, "served": version.name == served, "current": version.is_current,
        "complete": version.complete, "step": version.card.get("step"),
        "validation": version.card.get("validation", {}),
    }  # fmt: skip
