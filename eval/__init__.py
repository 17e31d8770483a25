"""Evaluation: metrics, protocol, statistics, tuning of baselines, tables and the report."""

from ..histories.questions import evaluated_events, num_previous, sample_events
from ..rankers.families import FAMILIES, Ranker
from .metrics import METRICS, per_event, summarise
from .protocol import Task, read_task
from .rankings import Rankings, read_rankings
from .settings import EvaluateSettings
from .table import RankerResult, as_json, as_table

__all__ = [
    "FAMILIES", "METRICS", "EvaluateSettings", "Ranker", "RankerResult", "Rankings", "Task", "as_json", "as_table",
    "evaluated_events", "num_previous", "per_event", "read_rankings", "read_task", "sample_events", "summarise",
]  # fmt: skip
