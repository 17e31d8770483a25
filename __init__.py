"""whereupon recommends what comes next for a person, given where they are, when it is and what the weather does.

    import whereupon
    recommender = whereupon.Recommender.load("my-shop.yaml")
    recommender.recommend(["42", "43"], at="2026-01-24T19:00", weather="snow, -3 C", k=10)

`prepare`, `finetune`, `evaluate` and `Recommender.load` take a configuration: a YAML file, a dictionary of the same
shape, or a run folder. The repository root is this package: each folder beside this file is one stage (see
ARCHITECTURE.md). Nothing heavy is imported before it is used. Errors that a user can fix are WhereuponError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Recommender", "RequestFilters", "__version__", "evaluate", "finetune", "prepare"]

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from .histories import PrepareReport
    from .recommend import Recommender, RequestFilters


def prepare(config: Any, overrides: Sequence[str] = ()) -> PrepareReport:
    """Read, clean, join and split the data into the run folder; the counts of what was kept, repaired and rejected."""
    from .config import configured
    from .histories import prepare
    from .verbs import record

    settings = configured(config, overrides)
    record("prepare", settings)
    return prepare(settings.histories, settings.catalogue, settings.run, settings.seed)


def finetune(config: Any, overrides: Sequence[str] = (), start: str | None = None) -> Path:
    """Train an adapter on the prepared histories, or go on from `start`, a version or a folder; its folder."""
    from importlib import import_module

    stage: Any = import_module(".finetune", __name__)  # of the same name, so that it takes the place of this function
    folder: Path = stage(config, overrides, start)
    return folder


def evaluate(config: Any, overrides: Sequence[str] = ()) -> pl.DataFrame:
    """Rank the events of `evaluate.split` by the model and its baselines: a row a ranker, a column a metric."""
    import polars as pl

    from .config import configured
    from .eval.run import evaluate
    from .verbs import record

    settings = configured(config, overrides)
    record("evaluate", settings)
    results = evaluate(settings, split=settings.evaluate.split, limit=settings.evaluate.limit)
    return pl.DataFrame([{"ranker": result.name, **result.metrics} for result in results])


def __getattr__(name: str) -> Any:
    if name in ("Recommender", "RequestFilters"):
        from . import recommend

        return getattr(recommend, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
