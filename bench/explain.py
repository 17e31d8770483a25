"""Explanations: do their shares add up, do other libraries agree, are they true to what decides, and what do they cost?

    make bench-explain

Two simulated towns (`tests/conftest.py`), trained until the answer is known: in one the weather decides between two
places, in the other the weather table is shuffled. In both, a third of the table is missing, in stretches of hours, so
that a prompt without weather is one that the model has learnt from. For answers of the first, the shares of each item
are compared with what captum (`ShapleyValues`) and shap (`KernelExplainer` over all sets of groups) find for the same
value function. The cost is that of the groups and of an hour later, without past events left out one by one, against a
plain answer, in CPU time; with `--run`, also that of the model of a run that is there.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import math
import statistics
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from record import bar, record

import whereupon
from whereupon.config import Config, load_config
from whereupon.recommend import Recommender, Request, RequestContext
from whereupon.recommend.explanation import SMALL, Explanation
from whereupon.recommend.recommender import Answer
from whereupon.recommend.why import explain_with, explaining
from whereupon.recommend.wordings import Worded
from whereupon.tests import conftest
from whereupon.tests.recommend.games import captum_values, shap_values, value_function

SEED = 3
FIRST_DAY, PEOPLE, DAYS = date(2024, 1, 1), 20, 40
HIDDEN, STRETCH_HOURS = 0.33, 8
LEARNT = ["finetune.epochs=15", "finetune.learning_rate=0.01", "finetune.batch_tokens=512", "prompts.budget_tokens=160"]
ANSWERS_OF_RUN = 4  # of which the first warms up
WEATHER = ("rain, 18 C", "clear, 18 C")
MODEL = "a Llama of two layers, hidden size 64, trained by `finetune` on each town; no stack of rankers"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=50, help="answers that the other libraries explain")
    parser.add_argument("--run", type=Path, help="the run folder of another model, whose cost is measured, too")
    parser.add_argument("--output", type=Path, help="folder to write to instead of bench/results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        with Recommender.load(_trained(Path(scratch) / "town", shuffled=False)) as recommender:
            exact = _exactness(recommender, options.answers)
            rains = _weather_shares(recommender)
            cost = _cost(recommender, _queries(recommender, 30))
        with Recommender.load(_trained(Path(scratch) / "shuffled", shuffled=True)) as recommender:
            shuffled = _weather_shares(recommender)
    more = {f"run {options.run.name}": _cost_of_run(options.run)} if options.run else {}
    bars = [
        bar("shares: largest difference of their sum to the whole", exact["sum"], "at most 1e-4", exact["sum"] <= 1e-4),
        *(
            bar(f"{name}: largest difference of a share, {options.answers} answers", exact[name], "at most 1e-3",
                exact[name] is not None and exact[name] <= 1e-3)
            for name in ("captum", "shap")
        ),
        bar("rain decides: answers in which weather has the largest share", rains["largest"], "all (1)",
            rains["largest"] == 1),
        bar("weather is shuffled: mean size of its share of the log-odds, nats", shuffled["nats"], f"at most {SMALL}",
            shuffled["nats"] <= SMALL),
        *(
            bar(f"cost of five groups, in plain answers (median), {name}", one["ratio"], "at most 8", one["ratio"] <= 8)
            for name, one in {"tiny model": cost, **more}.items()
        ),
    ]  # fmt: skip
    return record("explain", SEED, bars, folder=options.output, exactness=exact, rain_decides=rains,
                  weather_is_shuffled=shuffled, cost=cost, cost_of_run=more, model=MODEL)  # fmt: skip


def _trained(folder: Path, shuffled: bool) -> Config:
    make_town = inspect.unwrap(conftest._make_town)(inspect.unwrap(conftest._make_model)())
    path = make_town(folder, people=PEOPLE, days=DAYS, hidden=64, shuffled=shuffled)
    _hide_weather(folder / "weather.csv")
    config = load_config(path, LEARNT)
    whereupon.prepare(config)
    whereupon.finetune(config)
    return config


def _hide_weather(table: Path) -> None:
    """Take stretches of hours out of the weather table."""
    head, *rows = table.read_text(encoding="utf-8").splitlines()
    hidden = np.random.default_rng(SEED).random(1 + len(rows) // STRETCH_HOURS) < HIDDEN
    kept = [row for hour, row in enumerate(rows) if not hidden[hour // STRETCH_HOURS]]
    table.write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")


def _queries(recommender: Recommender, num: int) -> list[tuple[str, RequestContext]]:
    """Users and times: hours from 9 to 17 of the day after the last, in rain and in sunshine, a sample of all."""
    turns = list(itertools.product(range(9, 18), WEATHER, recommender.user_ids))
    chosen = np.random.default_rng(SEED).permutation(len(turns))[:num].tolist()
    return [
        (user, RequestContext(f"{FIRST_DAY + timedelta(days=DAYS):%Y-%m-%d}T{hour:02}:00", weather))
        for hour, weather, user in (turns[number] for number in chosen)
    ]


def _exactness(recommender: Recommender, num: int) -> dict[str, Any]:
    """The largest differences, over answers, of sums and of shares that libraries find."""
    worst: dict[str, float | None] = {"sum": 0.0, "captum": 0.0, "shap": 0.0}
    for user, context in _queries(recommender, num):
        answer = recommender.answer(recommender.question(Request(user, None, context)), 3)
        found = _explained(recommender, answer, 0)
        share_GK = np.array([[share.log_prob for share in why.groups] for why in found.items]).T
        nothing_K = np.array([why.nothing_log_prob for why in found.items])
        whole_K = np.log([why.probability for why in found.items])
        worst["sum"] = max(worst["sum"] or 0.0, float(np.abs(share_GK.sum(axis=0) + nothing_K - whole_K).max()))
        value_SK = value_function(recommender, answer)
        for name, library in (("captum", captum_values), ("shap", shap_values)):
            other_GK, before = library(value_SK), worst[name]
            missing = other_GK is None or before is None
            worst[name] = None if missing else max(before or 0.0, float(np.abs(share_GK - other_GK).max()))
    return {**worst, "answers": num, "items_each": 3}


def _weather_shares(recommender: Recommender) -> dict[str, float]:
    """What weather has of the log-odds of cinema against park, between which it decides: how often the largest share,
    and as means over answers, how much of all shares, and in nats."""
    largest, of_all, nats = [], [], []
    for user, context in _queries(recommender, 40):
        answer = recommender.answer(recommender.question(Request(user, None, context)), 5)
        found = _explained(recommender, answer, 0).items
        share_of = {
            why.item_id: {share.group: share.log_prob or 0.0 for share in why.groups}
            for why in found
            if why.item_id in ("cinema", "park")
        }
        odds = {group: abs(value - share_of["park"][group]) for group, value in share_of["cinema"].items()}
        largest.append(max(odds, key=lambda group: odds[group]) == "weather")
        of_all.append(odds["weather"] / sum(odds.values()))
        nats.append(odds["weather"])
    means = {"largest": largest, "of_all": of_all, "nats": nats}
    return {name: statistics.mean(values) for name, values in means.items()} | {"answers": len(largest)}


def _cost(recommender: Recommender, requests: list[tuple[str, RequestContext]]) -> dict[str, float]:
    """CPU time of a plain answer and of its explanation, k = 10."""
    plain, why, whole, groups = [], [], [], []
    for number, (user, context) in enumerate(requests):
        question = recommender.question(Request(user, None, context))
        began = time.process_time()
        answer = recommender.answer(question, 10)
        answered = time.process_time()
        _explained(recommender, answer, 0)
        explained = time.process_time()
        _explained(recommender, answer, 10)
        if number:  # the first one warms up
            plain.append(answered - began)
            why.append(explained - answered)
            whole.append(time.process_time() - explained)
            groups.append(len(Worded(question).groups))
    each = {"plain_cpu_ms": plain, "explained_cpu_ms": why, "with_ten_past_events_cpu_ms": whole}
    found = {name: 1e3 * statistics.median(seconds) for name, seconds in each.items()}
    return found | {
        "ratio": found["explained_cpu_ms"] / found["plain_cpu_ms"],
        "ratio_with_ten_past_events": found["with_ten_past_events_cpu_ms"] / found["plain_cpu_ms"],
        "fewest_groups": min(groups), "most_groups": max(groups), "answers": len(plain),
    }  # fmt: skip


def _explained(recommender: Recommender, answer: Answer, events: int) -> Explanation:
    found = explaining(answer, recommender.catalogues.blend, recommender.histories, math.inf, events)
    return explain_with(recommender._engine(answer.question.version.trie), found, answer.question.prompt.tokens_L)


def _cost_of_run(run: Path) -> dict[str, float]:
    """The same of a run that is there, for some of its users, right after their last events."""
    with Recommender.load(run) as recommender:
        users = np.random.default_rng(SEED).permutation(recommender.user_ids)[:ANSWERS_OF_RUN].tolist()
        return _cost(recommender, [(user, RequestContext()) for user in users])


if __name__ == "__main__":
    raise SystemExit(main())
