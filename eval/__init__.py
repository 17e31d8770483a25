"""How good a ranking is, and what any model has to beat: metrics, protocol, baselines, tables."""

from .baselines import BASELINES, Baseline
from .metrics import LOWER_IS_BETTER, METRICS, log_loss, mrr, ndcg, per_event, recall, summarise
from .protocol import evaluated_events, num_previous, sample_events
from .settings import EvaluateSettings
from .table import RankerResult, as_json, as_markdown, as_table

__all__ = [
    "BASELINES",
    "LOWER_IS_BETTER",
    "METRICS",
    "Baseline",
    "EvaluateSettings",
    "RankerResult",
    "as_json",
    "as_markdown",
    "as_table",
    "evaluated_events",
    "log_loss",
    "mrr",
    "ndcg",
    "num_previous",
    "per_event",
    "recall",
    "sample_events",
    "summarise",
]
