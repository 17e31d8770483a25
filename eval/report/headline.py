"""What was predicted, from what, and who won by how much: the facts of a dataset and one honest sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from ...histories.splitting import CAVEATS
from ..metrics import Metric
from ..wording import ON_VALIDATION, count, p_value, plain, signed, span
from .leaderboard import Leaderboard
from .runs import Dataset
from .statistics import LEVEL_TEXT, Difference

__all__ = ["Headline", "headline"]

NBSP = "\N{NO-BREAK SPACE}"
PROTOCOLS = {  # for the facts, and within the sentence
    "global_time": ("one cut in time for all users", "split by time and "),
    "leave_one_out": ("each user's last event", "each the last of its user and "),
    "user_cold_start": ("users that nobody trained on", "of users held out from training and "),
    "item_cold_start": ("items that nobody trained on", "at items held out from training and "),
}
OVER_EVERYTHING = (
    "Log-loss, calibration error and Brier score are over the whole catalogue: probability given to the user's own "
    "past items, which are no candidates, counts against a ranker."
)


@dataclass(frozen=True)
class Headline:
    """`sentence` says who won by how much; `facts` are label and value; `caveats` are more sentences."""

    sentence: str
    facts: Mapping[str, str]
    caveats: tuple[str, ...]


def headline(dataset: Dataset, board: Leaderboard) -> Headline:
    """The contender is the best ranker that is no baseline, so a model that loses is said to lose."""
    one = board.of(dataset.contender).metrics[dataset.metric]
    assert one is not None
    num, users = len(dataset.row_E), len(np.unique(dataset.user_E))
    events = f"{num:,} {dataset.part} event{'s' * (num > 1)} of {users:,} user{'s' * (users > 1)} of {dataset.name}"
    items = f"{'' if _exceptions(dataset) else 'all '}{dataset.histories.items.height:,} items"
    where = f"On {events}, {_protocol(dataset)[1]}each predicted from what came before it among {items}"
    figure = f"{dataset.contender.name} reaches {dataset.metric}{NBSP}{plain(one.mean)}"
    figure += f" ({LEVEL_TEXT} interval {span(one.low, one.high)})" if one.has_interval else ""
    sentence = f"{where}, {figure}{_verdict(dataset, board)}"
    return Headline(sentence, _facts(dataset), tuple([*_caveats(dataset), *dataset.notes]))


def _verdict(dataset: Dataset, board: Leaderboard) -> str:
    """The end of the sentence: against whom, and whether that may be chance."""
    contender, opponent = dataset.contender, dataset.opponent
    if opponent is None:
        return "; there is nothing to compare it with."
    # The reference has no difference from itself: then that of the other is turned round.
    against, sign = board.of(contender).against, 1
    if against is None:
        against, sign = board.of(opponent).against, -1
    assert against is not None
    role = "best" if opponent is dataset.reference else "next best"
    other = f"the {role} {'baseline' if opponent.is_baseline else 'ranker'}, {opponent.name}"
    return _compared(other, against, sign, dataset.metric, board.num_tests)


def _compared(other: str, difference: Difference, sign: int, metric: str, num_tests: int) -> str:
    mean, (low, high) = sign * difference.mean, sorted((sign * difference.low, sign * difference.high))
    if not difference.has_interval:
        return f"; the difference from {other}, is {signed(mean)} and cannot be tested."
    p = p_value(difference.p_holm)
    p = f"p{NBSP}{p if p.startswith('<') else f'={NBSP}{p}'}"
    tests = f" after Holm’s correction for {num_tests} comparisons" if num_tests > 1 else ""  # noqa: RUF001
    measured = f"{signed(mean)} ({span(low, high, sign=True)}; {p}{tests})"
    if not difference.sign:
        return f", which cannot be told apart from {other}: the difference of {measured} may be chance."
    better = (mean > 0) != Metric.parse(metric).lower_is_better
    return f", significantly {'better' if better else 'worse'} than {other}: the difference is {measured}."


def _facts(dataset: Dataset) -> dict[str, str]:
    histories = dataset.histories
    local = histories.events["local_time"].gather(dataset.row_E)
    first, last, split, shares = local.min(), local.max(), _split(dataset), ""
    if split.get("protocol") != "leave_one_out" and {"train", "valid"} <= set(split):
        earlier = split["train"] + (split["valid"] if dataset.part == "test" else 0)
        shares = f", after the first {earlier:.0%} of the events"
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    return {
        "Events predicted": count(len(dataset.row_E)),
        "of users": count(len(np.unique(dataset.user_E))),
        "Candidates": f"all {histories.items.height:,} items{_exceptions(dataset)}",
        "Period": _period(first.date(), last.date()),
        "Split": _protocol(dataset)[0] + shares,
        "Rankers": f"{len(dataset.rankers)}, {sum(r.is_baseline for r in dataset.rankers)} of them baselines",
    }


def _split(dataset: Dataset) -> dict[str, Any]:
    """The settings of the split: as the ranking has them, else as the data has them."""
    found = dataset.contender.protocol.get("split") or dataset.histories.manifest.get("settings", {}).get("split", {})
    return found if isinstance(found, dict) else {}


def _protocol(dataset: Dataset) -> tuple[str, str]:
    """See `PROTOCOLS`; one that is not there has its name among the facts alone."""
    name = str(_split(dataset).get("protocol", "unknown"))
    return PROTOCOLS.get(name, (name.replace("_", " "), ""))


def _exceptions(dataset: Dataset) -> str:
    """Which items are no candidates, in words."""
    told = dataset.contender.protocol
    without = ["the user's own past ones"] if told.get("repeats") == "excluded" else []
    without += ["those not yet available"] if told.get("available_from") else []
    return f", without {' and '.join(without)}" if without else ""


def _caveats(dataset: Dataset) -> list[str]:
    told, name = dataset.contender.protocol, _split(dataset).get("protocol")
    caveats = _sample(dataset)
    if dataset.part == "valid":
        caveats.append(ON_VALIDATION)
    caveats += [f"Of this protocol: {caveat}." for protocol, caveat in CAVEATS.items() if protocol == name and caveat]
    if without := told.get("num_without_candidate"):
        caveats.append(f"{without:,} further events are not predicted, as their item was no candidate then.")
    if told.get("repeats") == "excluded" and any(r.rankings.log_prob_E is not None for r in dataset.rankers):
        caveats.append(OVER_EVERYTHING)
    inexact = [one for one in dataset.rankers if one.facts.get("exact_share", 1) < 1]
    caveats += [f"{one.facts['exact_share']:.1%} of the rankings of {one.name} are proven exact." for one in inexact]
    return caveats


def _sample(dataset: Dataset) -> list[str]:
    """That the events are a sample, where they are one; how many there are in all, not all rankings know."""
    limit = dataset.split.partition("-")[2]
    if not limit.isdigit():
        return []
    num = int(dataset.contender.facts.get("num_events", len(dataset.row_E)))
    whole = next((r.facts["num_split_events"] for r in dataset.rankers if "num_split_events" in r.facts), None)
    if num >= whole if whole is not None else num < int(limit):  # no fewer were there than asked for
        return []
    of_all = "" if whole is None else f" of {whole:,}"
    return [f"This is a sample of {num:,}{of_all} events, in stretches of eight in a row of one user."]


def _period(first: date, last: date) -> str:
    if first == last:
        return f"{first.day} {first:%b %Y}"
    begin = f"{first.day} {first:%b}" + ("" if first.year == last.year else f" {first.year}")
    return f"{begin} to {last.day} {last:%b %Y}"
