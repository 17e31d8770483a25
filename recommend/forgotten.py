"""People who asked to be forgotten: a run keeps the SHA-256 of their ids, and answers as if it never knew them.

Each person is an empty file in `<run>/forgotten/`. So several servers of one run can write at once, and each sees what
the others have written. Prepared events of such a person stay in the run's histories until the data is prepared again
without them. No prompt shows these events. An adapter and rankers that have learnt from them still influence answers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..files import sha256_text
from ..histories import Histories
from ..prompts import PromptEncoder


@dataclass(frozen=True)
class Forgotten:
    """The people of a run who are forgotten, in `folder`."""

    folder: Path

    @classmethod
    def of_run(cls, run: Path) -> Forgotten:
        """Those of a run folder."""
        return cls(run / "forgotten")

    def add(self, user_id: str) -> None:
        """Forget somebody from now on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / sha256_text(user_id)).touch()

    def __contains__(self, user_id: str) -> bool:
        return (self.folder / sha256_text(user_id)).exists()

    def without(self, user_ids: Iterable[str]) -> list[str]:
        """Of some ids those that are not forgotten, in their order; nothing is hashed where none is."""
        known = {file.name for file in self.folder.glob("*")} if self.folder.is_dir() else set()
        return [user_id for user_id in user_ids if not known or sha256_text(user_id) not in known]

    @property
    def mark(self) -> int:
        """Another number whenever somebody was added; 0 while no user is forgotten."""
        return self.folder.stat().st_mtime_ns if self.folder.is_dir() else 0


class KnownOthers:
    """Makes prompts say what others did (`prompts.similar_tokens`) without those who are forgotten."""

    def __init__(self, histories: Histories, forgotten: Forgotten) -> None:
        self._histories, self._forgotten = histories, forgotten
        self._lock = threading.Lock()
        self._last: tuple[PromptEncoder, int, PromptEncoder] | None = None

    def in_prompts(self, encoder: PromptEncoder) -> PromptEncoder:
        """The encoder, which says nothing of anybody who is forgotten by now."""
        mark = self._forgotten.mark if encoder.others is not None else 0
        if not mark:
            return encoder
        with self._lock:
            if self._last is None or self._last[0] is not encoder or self._last[1] != mark:
                events, known = self._histories.events, self._forgotten.without(self._histories.user_ids)
                self._last = encoder, mark, encoder.with_others(events.filter(events["user_id"].is_in(known)))
            return self._last[2]
