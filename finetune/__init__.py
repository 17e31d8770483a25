"""Training examples, the catalogue loss, LoRA training under accelerate. Knows nothing of HTTP.

`whereupon.finetune` is this package and, since the public API has a function of that name, can be called like it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from .settings import FinetuneSettings

__all__ = ["FinetuneSettings"]


class _Callable(ModuleType):
    """A module that trains when it is called: importing it takes the place of the function in the package."""

    def __call__(self, config: Any, overrides: Sequence[str] = (), start: str | None = None) -> Path:
        """See `whereupon.finetune`."""
        from ..config import configured
        from ..verbs import record
        from .train import finetune

        settings = configured(config, overrides)
        record("finetune", settings)
        return finetune(settings, start)


sys.modules[__name__].__class__ = _Callable
