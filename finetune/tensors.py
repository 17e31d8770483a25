"""A dataclass of tensors that moves as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor


class OfTensors:
    """A dataclass of tensors, moved as one; also the interface by which torch's DataLoader pins memory.

    Fields may hold further ones, alone or in a tuple; other fields stay as they are.
    """

    def to(self, device: torch.device, non_blocking: bool = True) -> Self:
        """On another device; the copy of pinned memory is not waited for."""
        return self._each(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        return self._each(lambda value: value.pin_memory())

    def _each(self, moved: Callable[[Any], Any]) -> Self:
        def changed(value: Any) -> Any:
            if isinstance(value, Tensor | OfTensors):
                return moved(value)
            return tuple(changed(one) for one in value) if isinstance(value, tuple) else value

        held = {name: changed(getattr(self, name)) for name in self.__dataclass_fields__}  # type: ignore[attr-defined]
        return replace(self, **held)  # type: ignore[type-var]
