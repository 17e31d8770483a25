"""Dense lessons, the catalogue loss, LoRA training under accelerate. Knows nothing of HTTP."""

from .settings import FinetuneSettings

__all__ = ["FinetuneSettings"]
