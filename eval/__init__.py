"""How good a ranking is, and what any model has to beat: metrics, protocol, baselines, tables."""

from ..histories.questions import evaluated_events, num_previous, sample_events
from ..rankers.families import FAMILIES, Family, Ranker
from .metrics import LOWER_IS_BETTER, METRICS, log_loss, mrr, ndcg, per_event, recall, summarise
from .protocol import Task, read_task
from .rankings import Rankings, evaluation_folder, read_rankings, slug_of, slugs_in, write_rankings
from .settings import EvaluateSettings
from .table import RankerResult, as_json, as_table

__all__ = [
    "FAMILIES",
    "LOWER_IS_BETTER",
    "METRICS",
    "EvaluateSettings",
    "Family",
    "Ranker",
    "RankerResult",
    "Rankings",
    "Task",
    "as_json",
    "as_table",
    "evaluated_events",
    "evaluation_folder",
    "log_loss",
    "mrr",
    "ndcg",
    "num_previous",
    "per_event",
    "read_rankings",
    "read_task",
    "recall",
    "sample_events",
    "slug_of",
    "slugs_in",
    "summarise",
    "write_rankings",
]
