"""Are our metrics those of ir-measures (trec_eval)? 1,000 random runs, a minute on two cores.

    python bench/metrics_check.py [--runs 1000] [--seed 0]

Each run has its own number of events and items, lists of its own length, a cutoff, and raw scores with many ties. The
ranker breaks ties (by item) and exports strictly decreasing scores, as `whereupon` does, so that no other way of
breaking them decides. Compared are each event's own value and the mean. Log-loss has no counterpart there. F1@k is
compared with the harmonic mean of their P@k and R@k, and, where no list is shorter than k, with their set measure over
the first k.

Writes bench/results/metrics_check.json; exits with 1 if a metric is off by more than 1e-9 anywhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib.metadata import version

import ir_measures
import numpy as np
from ir_measures import RR, P, R, SetF, Success, nDCG
from numpy.typing import NDArray
from record import bar, record

from whereupon.eval.metrics import micro, per_event

NUM_RUNS = 1_000
TOLERANCE = 1e-9
MEASURES = {"recall": R, "precision": P, "nDCG": nDCG, "MRR": RR}

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Listed = dict[str, dict[str, float]]


def main() -> int:
    """Compare, and the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=NUM_RUNS, help="how many random runs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the runs (default: %(default)s)")
    args = parser.parse_args()
    gaps = largest_gaps(args.runs, args.seed)
    bars = [bar("random runs compared", args.runs, f">= {NUM_RUNS}", args.runs >= NUM_RUNS)]
    bars += [bar(f"{name}, off at most", gap, f"<= {TOLERANCE:g}", gap <= TOLERANCE) for name, gap in gaps.items()]
    compared_with = {name: version(name) for name in ("ir-measures", "pytrec-eval-terrier")}
    return record("metrics_check", args.seed, bars, compared_with=compared_with)


def largest_gaps(num_runs: int, seed: int) -> dict[str, float]:
    """By how much each metric is off at worst, over events and means of all runs."""
    rng = np.random.default_rng(seed)
    gaps: dict[str, float] = {}
    for _ in range(num_runs):
        k = int(rng.integers(1, 31))
        item_EK, true_item_E = random_lists(rng)
        for name, gap in compare(item_EK, true_item_E, k):
            gaps[name] = max(gap, gaps.get(name, 0.0))
    return gaps


def random_lists(rng: np.random.Generator) -> tuple[Int64, Int64]:
    """Lists of distinct items, best first, int64 [E, K], and the item that each event was of, int64 [E].

    A few true items are in no list, and now and then K is 0.
    """
    num_events, num_items = int(rng.integers(1, 41)), int(rng.integers(2, 200))
    num_listed = int(rng.integers(0, min(num_items, 50) + 1))
    raw_EI = rng.integers(0, 10, (num_events, num_items))
    order_EI = np.argsort(-raw_EI, axis=1, kind="stable")  # ties by item
    # Half of the true items are drawn from the first places, or long catalogues would hardly have a hit.
    place_E = np.where(rng.random(num_events) < 0.5, rng.integers(0, 5, num_events), rng.integers(0, 200, num_events))
    true_item_E = order_EI[np.arange(num_events), place_E % num_items]
    return order_EI[:, :num_listed], true_item_E


def compare(item_EK: Int64, true_item_E: Int64, k: int) -> Iterator[tuple[str, float]]:
    """Each metric's name without its cutoff, and by how much the two are apart in an event or in the mean."""
    lists = item_EK.tolist()
    rank_E = np.array([
        items.index(true) + 1 if true in items else 0 for items, true in zip(lists, true_item_E.tolist(), strict=True)
    ])  # fmt: skip
    ours = per_event(rank_E, None, [*(f"{name}@{k}" for name in MEASURES), f"F1@{k}", "recall@1"])
    qrels = {str(event): {str(item): 1} for event, item in enumerate(true_item_E.tolist())}
    run = exported(item_EK)
    theirs = {name: measured(measure @ k, qrels, run) for name, measure in MEASURES.items()}
    for name, theirs_E in theirs.items():
        yield name, _gap(ours[f"{name}@{k}"], theirs_E)
        aggregate = ir_measures.calc_aggregate([MEASURES[name] @ k], qrels, run)
        yield f"mean {name}", abs(micro(ours[f"{name}@{k}"]) - aggregate[MEASURES[name] @ k])
    yield "hit rate", _gap(ours[f"recall@{k}"], measured(Success @ k, qrels, run))
    yield "accuracy", _gap(ours["recall@1"], measured(P @ 1, qrels, run))
    precision_E, recall_E = theirs["precision"], theirs["recall"]
    both_E = precision_E + recall_E
    harmonic_E = 2 * precision_E * recall_E / np.where(both_E > 0, both_E, 1)
    yield "F1 from P and R", _gap(ours[f"F1@{k}"], harmonic_E)
    if item_EK.shape[1] >= k:
        yield "F1", _gap(ours[f"F1@{k}"], measured(SetF, qrels, exported(item_EK[:, :k])))


def exported(item_EK: Int64) -> Listed:
    """As a run: scores decrease strictly by place; written backwards, so that the order of writing decides nothing."""
    places = range(item_EK.shape[1])[::-1]
    rows = enumerate(item_EK.tolist())
    return {str(event): {str(items[place]): float(-place) for place in places} for event, items in rows if items}


def measured(measure: ir_measures.Measure, qrels: dict[str, dict[str, int]], run: Listed) -> Float64:
    """float64 [E]: their value of each event, in order; 0 where they say nothing of it, as their means have it."""
    value = {int(one.query_id): one.value for one in ir_measures.iter_calc([measure], qrels, run)}
    return np.array([value.get(event, 0.0) for event in range(len(qrels))])


def _gap(ours_E: Float64, theirs_E: Float64) -> float:
    return float(np.abs(ours_E - theirs_E).max())


if __name__ == "__main__":
    sys.exit(main())
