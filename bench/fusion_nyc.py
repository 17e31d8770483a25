"""Is the fusion of model and best baseline better than both on nyc-checkins? Seconds, once all of them are evaluated.

    WHEREUPON_NYC_CHECKINS=<folder of the three files> python bench/fusion_nyc.py [--fused exact] [--set A.B=C]

Needs the run folder of examples/nyc-checkins.yaml after `whereupon prepare` and `whereupon finetune`. What is finished
there is read; what is missing is made first, which takes the model alone two hours on two cores: `calibrate`, the
validation and the test split as the model is, the test split with the calibration. A killed run goes on.

Fusions: "exact" is the one that can be served, the prior of `decode.calibration: context` blended in where titles part,
with temperature and weight by the likelihood of validation events; "log-prob" and "rrf" are `whereupon fuse` of model
and best baseline, with weights by nDCG@10 on validation events. The best baseline is that of the best nDCG@10 on
validation events. The bars are those of `--fused`; all three are recorded. Writes bench/results/fusion_nyc.json; exits
with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from record import bar, record

from whereupon.config import Config, load_config
from whereupon.decode.adapter_card import read_card
from whereupon.decode.adapters import current_adapter
from whereupon.errors import ConfigError
from whereupon.eval import read_rankings, read_task, slug_of
from whereupon.eval.calibrate import calibrate
from whereupon.eval.fuse import fuse
from whereupon.eval.fusion import FusionMethod
from whereupon.eval.intervals import intervals
from whereupon.eval.metrics import evaluate_rankings
from whereupon.eval.rankers import of_task
from whereupon.eval.rankings import Rankings, evaluation_folder
from whereupon.eval.reweighter import read_calibration
from whereupon.eval.run import evaluate
from whereupon.eval.significance import compare, holm
from whereupon.histories import Histories, read_histories

CONFIG = Path(__file__).parents[1] / "examples" / "nyc-checkins.yaml"
METRIC: Final = "nDCG@10"
SHOWN: Final = ("recall@1", "recall@10", METRIC, "MRR@10")
MODEL: Final = "fine-tuned"
EXACT: Final = "fine-tuned-context"
PRIOR: Final = "context-weighted-own-events"  # the baseline that the prior of the exact fusion is made of
LISTS: Final[tuple[FusionMethod, ...]] = ("log-prob", "rrf")
LEAST: Final = 0.550
LEVEL: Final = 0.05
SEED: Final = 7

Found = dict[str, tuple[Rankings, dict[str, Any]]]


def main() -> int:
    """Rank what is not ranked yet, compare; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fused", choices=["exact", *LISTS], default="exact", help="which fusion the bars are of")
    parser.add_argument("--set", action="append", metavar="A.B=C", help="override a setting of the example")
    chosen = parser.parse_args()
    config = load_config(CONFIG, chosen.set or ())
    histories = read_histories(config.run)
    calibration = _calibration(config, histories)
    evaluate(_with(config, "none", config.evaluate.baselines), split="test")
    evaluate(_with(config, "context", []), split="test")
    task, folder = read_task(histories, "test", config.evaluate), evaluation_folder(config.run, "test")
    best = best_baseline({slug: read_rankings(folder, slug)[1] for slug in of_task(folder, task)[0]})
    evaluate(_with(config, "none", [best["name"]]), split="valid")
    fused = {"exact": EXACT}
    for method in LISTS:
        fused[method] = slug_of(fuse(config, [MODEL, best["slug"]], method=method, split="test")[-1].name)
    parts = list(dict.fromkeys([MODEL, PRIOR, best["slug"]]))
    found = {slug: read_rankings(folder, slug) for slug in [*fused.values(), *parts]}
    user_E = histories.user_idx_E[task.row_E]
    return judge(found, user_E, fused[chosen.fused], parts, fitted_on=_fitted_on(found, calibration),
                 best_baseline=best["name"], fusions=fused, calibration=calibration)  # fmt: skip


def judge(
    found: Found, user_E: NDArray[np.integer], fused: str, parts: Sequence[str], fitted_on: Mapping[str, int],
    **told: Any,
) -> int:  # fmt: skip
    """Compare each fusion with the parts, record all, and set the bars by `fused`; the exit status.

    Args:
        found: rankings and facts of fusions and parts, by slug.
        user_E: integers [E], whose event it is.
        fused: slug of the fusion that has to be better.
        parts: slugs of what it has to be better than.
        fitted_on: for each fusion, how many validation events decided its weights.
        told: more for the record.
    """
    if len({facts["task"] for _, facts in found.values()}) > 1:
        sys.exit(f"{', '.join(found)} should be of the same events and candidates but are not; evaluate them again.")
    values = {slug: evaluate_rankings(rankings, SHOWN) for slug, (rankings, _) in found.items()}
    tests = {slug: _tests(values, user_E, slug, parts) for slug in found if slug not in parts}
    mean = float(values[fused][METRIC].mean())
    bars = [
        bar(f"{METRIC} of {found[fused][1]['name']}", mean, f">= {LEAST:.3f}", mean >= LEAST),
        *(_bar(test) for test in tests[fused]),
        bar("validation events that its weights were fitted on", fitted_on[fused], "> 0", fitted_on[fused] > 0),
    ]
    return record(
        "fusion_nyc", SEED, bars, table=intervals(values, user_E, seed=SEED).to_dicts(), tests=tests,
        settings={slug: facts["settings"] for slug, (_, facts) in found.items()}, fitted_on=fitted_on, **told,
    )  # fmt: skip


def best_baseline(facts: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The facts of the baseline whose chosen settings have the best nDCG@10 on validation events: the first of equals.

    Seeking it on test events would choose the part, and with it the fusion, by what is to be reported.
    """
    tuned = [one for one in facts.values() if one["kind"] == "baseline" and one["tuned"]["trials"]]
    return max(tuned, key=lambda one: max(trial["metrics"][METRIC] for trial in one["tuned"]["trials"]))


def _with(config: Config, calibration: str, baselines: list[str]) -> Config:
    decode = config.decode.model_copy(update={"calibration": calibration})
    evaluate = config.evaluate.model_copy(update={"baselines": baselines})
    return config.model_copy(update={"decode": decode, "evaluate": evaluate})


def _calibration(config: Config, histories: Histories) -> dict[str, Any]:
    """What `calibrate` fitted for this adapter, now if it had not."""
    card = read_card(current_adapter(config.run))
    try:
        return read_calibration(config, histories, card)
    except ConfigError:
        calibrate(config)
    return read_calibration(config, histories, card)


def _fitted_on(found: Found, calibration: dict[str, Any]) -> dict[str, int]:
    """How many validation events decided the weights of each fusion."""
    lists = {slug: facts["tuned"]["num_events"] for slug, (_, facts) in found.items() if facts["kind"] == "fusion"}
    return {EXACT: calibration["num_events"], **lists}


def _tests(
    values: Mapping[str, dict[str, NDArray[np.float64]]], user_E: NDArray[np.integer], fused: str, parts: Sequence[str]
) -> list[dict[str, Any]]:
    """The fusion against each of its parts; p-values corrected for how many they are."""
    tests = []
    for part in parts:
        pair = {name: {METRIC: values[name][METRIC]} for name in (fused, part)}
        tests += compare(pair, user_E, baselines=[part], seed=SEED).to_dicts()
    corrected = holm(np.array([test["p"] for test in tests]))
    return [{**test, "p_holm": p} for test, p in zip(tests, corrected.tolist(), strict=True)]


def _bar(test: dict[str, Any]) -> dict[str, Any]:
    name = f"p (Holm) against {test['baseline']}, {test['difference']:+.4f}"
    return bar(name, test["p_holm"], f"< {LEVEL} and better", test["is_better"] and test["p_holm"] < LEVEL)


if __name__ == "__main__":
    sys.exit(main())
