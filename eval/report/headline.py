"""What was predicted, from what, and who won by how much: the facts of a dataset and one honest sentence."""

from __future__ import annotations

import numpy as np

from ...histories.splitting import CAVEATS
from ..metrics import Metric
from ..wording import ON_VALIDATION, count, p_value, plain, signed, span
from .runs import Dataset
from .sections import Leaderboard, Part
from .statistics import LEVEL_TEXT

NBSP = "\N{NO-BREAK SPACE}"
PROTOCOLS = {  # for the facts, and within the sentence
    "global_time": ("one cut in time for all users", "split by time and "),
    "leave_one_out": ("each user's last event", "each the last of its user and "),
    "user_cold_start": ("users without training events", "of users held out from training and "),
    "item_cold_start": ("items without training events", "at items held out from training and "),
}
OVER_EVERYTHING = (
    "Log-loss, calibration error and Brier score are over the whole catalogue: probability given to the user's own "
    "past items, which are no candidates, counts against a ranker."
)


def headline(dataset: Dataset, board: Leaderboard) -> Part:
    """`sentence` says who won by how much, `facts` are label and value, `caveats` more sentences.

    The contender is the best ranker that is no baseline, so a model that loses is said to lose.
    """
    one = board.of(dataset.contender).metrics[dataset.metric]
    assert one is not None
    protocol = dataset.contender.protocol
    split = protocol.get("split") or dataset.histories.manifest.get("settings", {}).get("split")
    split = split if isinstance(split, dict) else {}
    name = str(split.get("protocol", "unknown"))
    in_facts, in_sentence = PROTOCOLS.get(name, (name.replace("_", " "), ""))
    num, users, num_items = len(dataset.row_E), len(np.unique(dataset.user_E)), dataset.histories.items.height
    exceptions = ["the user's own past ones"] if protocol.get("repeats") == "excluded" else []
    exceptions += ["those not yet available"] if protocol.get("available_from") else []
    without = f", without {' and '.join(exceptions)}" if exceptions else ""
    shares = ""
    if name != "leave_one_out" and {"train", "valid"} <= set(split):
        earlier = split["train"] + (split["valid"] if dataset.part == "test" else 0)
        shares = f", after the first {earlier:.0%} of the events"
    events = f"{num:,} {dataset.part} event{'s' * (num > 1)} of {users:,} user{'s' * (users > 1)} of {dataset.name}"
    items = f"{'' if without else 'all '}{num_items:,} items"
    figure = f"{dataset.contender.name} reaches {dataset.metric}{NBSP}{plain(one.mean)}"
    figure += f" ({LEVEL_TEXT} interval {span(one.low, one.high)})" if one.has_interval else ""
    sentence = f"On {events}, {in_sentence}each predicted from what came before it among {items}, {figure}"
    facts = {
        "Events predicted": count(num),
        "of users": count(users),
        "Candidates": f"all {num_items:,} items{without}",
        "Period": _period(dataset),
        "Split": in_facts + shares,
        "Rankers": f"{len(dataset.rankers)}, {sum(r.is_baseline for r in dataset.rankers)} of them baselines",
    }
    caveats = [*_caveats(dataset, name), *dataset.notes]
    return {"sentence": sentence + _verdict(dataset, board), "facts": facts, "caveats": caveats}


def _verdict(dataset: Dataset, board: Leaderboard) -> str:
    """The end of the sentence: against which ranker, and whether that may be chance."""
    contender, opponent = dataset.contender, dataset.opponent
    if opponent is None:
        return "; there is nothing to compare it with."
    # The reference has no difference from itself: then that of the other is turned round.
    sign = 1 if board.of(contender).against else -1
    against = board.of(contender).against or board.of(opponent).against
    assert against is not None
    role = "best" if opponent is dataset.reference else "next best"
    other = f"the {role} {'baseline' if opponent.is_baseline else 'ranker'}, {opponent.name}"
    mean, (low, high) = sign * against.mean, sorted((sign * against.low, sign * against.high))
    if not against.has_interval:
        return f"; the difference from {other}, is {signed(mean)} and cannot be tested."
    p = p_value(against.p_holm)
    p = f"p{NBSP}{p if p.startswith('<') else f'={NBSP}{p}'}"
    tests = f" after Holm’s correction for {board.num_tests} comparisons" if board.num_tests > 1 else ""  # noqa: RUF001
    measured = f"{signed(mean)} ({span(low, high, sign=True)}; {p}{tests})"
    if not against.sign:
        return f", which cannot be distinguished from {other}: the difference of {measured} may be chance."
    better = (mean > 0) != Metric.parse(dataset.metric).lower_is_better
    return f", significantly {'better' if better else 'worse'} than {other}: the difference is {measured}."


def _caveats(dataset: Dataset, name: str) -> list[str]:
    """`name` is that of the split's protocol."""
    protocol = dataset.contender.protocol
    caveats = [*_sample(dataset), *([ON_VALIDATION] if dataset.part == "valid" else [])]
    caveats += [f"Of this protocol: {caveat}." for protocol, caveat in CAVEATS.items() if protocol == name and caveat]
    if without := protocol.get("num_without_candidate"):
        caveats.append(f"{without:,} further events are not predicted, as their item was no candidate then.")
    if protocol.get("repeats") == "excluded" and any(r.rankings.log_prob_E is not None for r in dataset.rankers):
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
    if num >= whole if whole is not None else num < int(limit):  # there are not fewer than requested
        return []
    of_all = "" if whole is None else f" of {whole:,}"
    return [f"This is a sample of {num:,}{of_all} events, in stretches of eight in a row of one user."]


def _period(dataset: Dataset) -> str:
    local = dataset.histories.events["local_time"].gather(dataset.row_E)
    first, last = local.sort()[[0, -1]].to_list()
    begin = f"{first.day} {first:%b}" + (f" {first.year}" if first.year != last.year else "")
    end = f"{last.day} {last:%b %Y}"
    return end if first.date() == last.date() else f"{begin} to {end}"
