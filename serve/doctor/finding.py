"""One check and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["well", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, whether it is well, what was found, and what to do ("": nothing).

    A note costs speed, or concerns only some uses; what is wrong keeps answers from being given.
    """

    name: str
    state: State
    found: str
    advice: str = ""
