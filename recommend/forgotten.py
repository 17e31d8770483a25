"""People who asked to be forgotten: a run remembers the SHA-256 of their ids, and answers as if it never knew them.

Each is an empty file of its own in `<run>/forgotten/`, so that several servers of one run can write at once, and see
what another has written. Prepared events of such a person stay in the run's histories until the data is prepared again
without them; no prompt shows them, and no answer rests on them but by what an adapter and rankers have learnt.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..files import sha256_text


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
