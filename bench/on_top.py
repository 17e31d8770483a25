"""What is training on top of counting worth? Tables of finished runs, and what the prior costs.

    python bench/on_top.py [--only tables,cost,training] [EXAMPLE=RUN ...]

`tables` reads the rankings that `whereupon evaluate` left in run folders; where no model was trained on top of the
stack, the stack alone stands for it, by its name. EXAMPLE is a configuration in examples/
without its ending, RUN the folder of a run that was trained on top (default: runs/EXAMPLE, of all four examples).
Rankings of a model that was trained alone, and of the same pooled afterwards, are looked for in RUN-alone; those among
new items in RUN-new, a copy of RUN that was evaluated with `--set evaluate.repeats=excluded`. A missing figure is a
missed bar. `cost` times the masses of a question over a million made-up titles, and by the rankers of nyc-checkins.
`training` times the same training steps with and without the prior, in turns, on the run of flights-demo. Whether
searches with a stack are exact is shown by bench/exact_nyc.py.

Writes bench/results/on_top.json; exits with 1 if a bar is missed. Some five minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from record import bar, record

from whereupon.arrays import Bool, Float64, Int32, Int64
from whereupon.catalogue import Trie
from whereupon.catalogue.building import build_trie_ragged
from whereupon.config import load_config
from whereupon.decode import Change
from whereupon.decode.models import adapter_identity, build_encoder, load_base_model, load_tokenizer
from whereupon.errors import DataError
from whereupon.eval.metrics import evaluate_rankings
from whereupon.eval.rankings import Rankings, evaluation_folder, read_rankings, slugs_in
from whereupon.eval.significance import compare
from whereupon.eval.slices import first_visits, slices_of
from whereupon.finetune.dataset import open_examples
from whereupon.finetune.launch import accelerator_of, set_up_base
from whereupon.finetune.model import CatalogueModel, add_lora
from whereupon.finetune.on_top import on_top_of
from whereupon.finetune.optimizers import make_optimizer
from whereupon.finetune.schedule import Schedule
from whereupon.histories import Histories, build_histories, read_histories
from whereupon.rankers.blend import Blend
from whereupon.rankers.pooling import Pools
from whereupon.rankers.queries import query_histories
from whereupon.rankers.saved import read_stack
from whereupon.rankers.stack import Member, StackRecipe, fit_stack

ROOT: Final = Path(__file__).parents[1]
SEED: Final = 7
METRICS: Final = ("nDCG@10", "log-loss")
SLUGS: Final = {
    "on top": "fine-tuned-on-top", "stack of priors": "stack-of-priors", "pooled afterwards": "fine-tuned-pooled",
    "model alone": "fine-tuned",
}  # fmt: skip
EXAMPLES: Final = ("flights-demo", "nyc-checkins", "movielens-100k", "movielens-100k-loo")
NEW: Final = "among new items"
NUM_TITLES: Final = 1_000_000
NUM_STEPS: Final = 12  # of training, with and without the prior each
# Required: example, part of its events, metric, and the least (or, of a loss, the most) that it should be.
ASKED: Final = (
    ("flights-demo", "all", "nDCG@10", 0.800), ("flights-demo", "all", "log-loss", 1.15),
    ("nyc-checkins", "all", "nDCG@10", 0.585), ("nyc-checkins", "first visits", "nDCG@10", 0.035),
    ("nyc-checkins", "repeats", "nDCG@10", 0.690), ("nyc-checkins", NEW, "nDCG@10", 0.120),
    ("movielens-100k", "all", "nDCG@10", 0.118), ("movielens-100k-loo", "all", "nDCG@10", 0.070),
)  # fmt: skip


@dataclass(frozen=True)
class Ranked:
    """One ranker's figures for the events of one example: metric to values, float64 [E]."""

    name: str
    is_baseline: bool
    row_E: Int64
    values: dict[str, Float64]


def main() -> int:
    """Measure, and the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="tables,cost,training", help="parts, with commas (default: %(default)s)")
    parser.add_argument("runs", nargs="*", metavar="EXAMPLE=RUN")
    given = parser.parse_args()
    named = dict(one.split("=", 1) for one in given.runs if "=" in one)
    examples = [one.split("=", 1)[0] for one in given.runs] or list(EXAMPLES)
    bars: list[dict[str, Any]] = []
    figures: dict[str, Any] = {}
    if "tables" in given.only:
        for name in examples:
            run = Path(named.get(name, ROOT / "runs" / name))
            found, more = tables(name, run)
            figures[name] = found
            bars += more
    if "cost" in given.only:
        found, more = cost()
        figures["cost"] = found
        bars += more
        name = "nyc-checkins"  # whose rankers look at every item of the catalogue
        found, more = cost_of_run(name, Path(named.get(name, ROOT / "runs" / name)))
        figures["cost of a run's rankers"] = found
        bars += more
    if "training" in given.only:
        found, more = training(Path(named.get("flights-demo", ROOT / "runs" / "flights-demo")))
        figures["training"] = found
        bars += more
    return record("on_top", SEED, bars, **figures)


def tables(example: str, run: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures of an example by part of its events, and its bars; a required figure without a value is a missed bar."""
    rows: list[dict[str, Any]] = []
    bars: list[dict[str, Any]] = []
    try:
        histories = read_histories(run)
        for part, mask_E, ranked, user_E in _parts(histories, run):
            these = _table(part, mask_E, ranked, user_E)
            rows += these
            if part in ("all", NEW) and these[0]["ranker"] in ("on top", "stack of priors"):
                bars += list(_tested(example, part, these))
    except DataError as error:
        print(f"{example}: {error}", file=sys.stderr)
    first = {row["part"]: row for row in reversed(rows) if row["ranker"] in ("on top", "stack of priors")}
    for _, part, metric, at in (one for one in ASKED if one[0] == example):
        row, is_loss = first.get(part, {"ranker": "on top"}), metric == "log-loss"
        value = row.get(metric)
        ok = value is not None and (value <= at if is_loss else value >= at)
        name = f"{example}, {part}, {metric}, {row['ranker']}"
        bars.append(bar(name, value, f"{'<=' if is_loss else '>='} {at}", ok))
    _print(example, rows)
    return {"rows": rows}, bars


def _rankers(*runs: Path) -> list[Ranked]:
    """Who ranked the test split of some runs, each once, on top first. Raises DataError: no event of the first run."""
    found: dict[str, Ranked] = {}
    for run in runs:
        folder = evaluation_folder(run, "test")
        for slug in slugs_in(folder) if folder.is_dir() else []:
            rankings, facts = read_rankings(folder, slug)
            name = next((name for name, known in SLUGS.items() if known == slug), facts["name"])
            if facts["kind"] != "ablation":
                found.setdefault(name, Ranked(name, facts["kind"] == "baseline", rankings.row_E, _values(rankings)))
        if not found:
            raise DataError(f"{folder} has no rankings; run `whereupon evaluate` for this run.")
    return sorted(found.values(), key=lambda one: (one.name != "on top", one.name != "stack of priors"))


def _values(rankings: Rankings) -> dict[str, Float64]:
    values = evaluate_rankings(rankings, METRICS)
    return {name: values[name] for name in METRICS if name in values}


def _parts(histories: Histories, run: Path) -> Iterator[tuple[str, Bool, list[Ranked], Int32]]:
    """Parts of the events: name, which of them, who ranked them, and whose they are. Raises DataError: no rankings."""
    rankers = _rankers(run, run.with_name(run.name + "-alone"))
    row_E = rankers[0].row_E
    user_E, first_E = histories.user_idx_N[row_E], first_visits(histories)[row_E]
    yield "all", np.ones(len(row_E), bool), rankers, user_E
    if first_E.any() and not first_E.all():
        yield "repeats", ~first_E, rankers, user_E
        yield "first visits", first_E, rankers, user_E
    followed = slices_of(histories, "test", row_E)["followed"].cast(pl.String).to_numpy()
    for name, value in (("followed the last item in training", "yes"), ("did not follow it in training", "no")):
        if (followed == value).any():
            yield name, followed == value, rankers, user_E
    among_new = run.with_name(run.name + "-new")
    if among_new.is_dir():
        rankers = _rankers(among_new)
        yield NEW, np.ones(len(rankers[0].row_E), bool), rankers, histories.user_idx_N[rankers[0].row_E]


def _table(part: str, mask_E: Bool, rankers: list[Ranked], user_E: Int32) -> list[dict[str, Any]]:
    """Means of every ranker, and its difference from the one on top with an interval and corrected p."""
    first = rankers[0]
    chosen = {
        one.name: {name: value_E[mask_E] for name, value_E in one.values.items()}
        for one in rankers if np.array_equal(one.row_E, first.row_E)
    }  # fmt: skip
    compared = compare(chosen, user_E[mask_E], baseline=first.name, seed=SEED)
    rows = []
    for one in rankers:
        if one.name not in chosen:
            continue
        row: dict[str, Any] = {
            "part": part,
            "events": int(mask_E.sum()),
            "ranker": one.name,
            "baseline": one.is_baseline,
        }
        row |= {name: float(np.mean(values)) for name, values in chosen[one.name].items()}
        for metric in METRICS:
            found = compared.filter((pl.col("ranker") == one.name) & (pl.col("metric") == metric))
            if found.height:
                named = found.row(0, named=True).items()
                unknown = {name for name, value in named if isinstance(value, float) and not np.isfinite(value)}
                row[f"{metric} difference"] = {name: None if name in unknown else value for name, value in named}
        rows.append(row)
    return rows


def _tested(example: str, part: str, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """On top (or the stack, where no model was trained on it) against the best baseline and its own parts: nDCG@10."""
    others = [row for row in rows if row["baseline"]]
    best = max(others, key=lambda row: row["nDCG@10"], default=None)
    for row in filter(None, [best, *(row for row in rows if row["ranker"] in SLUGS and row is not rows[0])]):
        found = row["nDCG@10 difference"]
        gain, sure = -found["difference"], found["p_holm"] is not None and found["p_holm"] < 0.05
        name = f"{example}, {part}, nDCG@10, {rows[0]['ranker']} over {row['ranker']}"
        if row is best:
            yield bar(name, gain, "> 0, p < 0.05", gain > 0 and sure)
        else:
            yield bar(name, gain, "not significantly below 0", gain >= 0 or not sure)


def _print(example: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{example}")
    for row in rows:
        numbers = "  ".join(f"{name} {row[name]:.4f}" for name in METRICS if name in row)
        print(f"  {row['part']} ({row['events']:,}): {row['ranker']}: {numbers}")


def cost() -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Milliseconds and bytes of the masses of one question over a million titles, with sparse rankers.

    The question is a user's last 100 events. Counted is all from the request to the masses at the topmost node and at
    five more below it; what does not depend on the question is made once.
    """
    rng = np.random.default_rng(SEED)
    known, trie = _large(rng)
    member = Member({}, 1.0)
    moving = Member({"known": 2.0, "new": 0.5}, 1.0)
    recipe = StackRecipe({"own counts": member}, {"own counts + transitions": moving}, {})
    change_of = Blend(Pools(), fit_stack(recipe, known, "test", SEED)).change_for(known, trie, None)
    requests = [_request(known, user) for user in rng.choice(len(known.user_ids), 50, replace=False)]
    _masses(change_of, trie, requests[0])
    times, sizes = [], []
    for request in requests:
        began = time.perf_counter()
        _masses(change_of, trie, request)
        times.append(time.perf_counter() - began)
        tracemalloc.start()
        kept = change_of(request)
        sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        del kept
    ms, mb = 1e3 * float(np.median(times)), float(np.median(sizes)) / 1e6
    bars = [
        bar("1 M titles, masses of a question, ms", ms, "< 5", ms < 5),
        bar("1 M titles, memory of a question, MB", mb, "< 1", mb < 1),
    ]
    return {"ms_median": ms, "ms_worst": 1e3 * max(times), "mb_median": mb, "num_titles": trie.num_items}, bars


def cost_of_run(example: str, run: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Milliseconds of the masses of one question by the rankers of a run, from the request to the last one."""
    ms = None
    try:
        known = read_histories(run)
        stack = read_stack(run / "priors" / "stack", known)
    except DataError as error:
        print(f"{example}: {error}", file=sys.stderr)
        names = []
    else:
        names = sorted({name for _, name in stack.rankers})
        users = np.random.default_rng(SEED).choice(len(known.user_ids), 51)
        times = []
        for user in users.tolist():
            request, began = _request(known, user), time.perf_counter()
            asked = query_histories(known, request)
            stack.on(asked, known).masses(asked.offset_U1[1:] - 1)
            times.append(time.perf_counter() - began)
        ms = 1e3 * float(np.median(times[1:]))  # the first one counts what all users did
    one = bar(f"{example}, masses of a question, ms", ms, "< 5", ms is not None and ms < 5)
    return {"example": example, "rankers": names, "ms_median": ms}, [one]


def training(run: Path) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Seconds of training steps with the prior over those without it: the same windows, each first in turns.

    Raises DataError: the run is not prepared.
    """
    config = load_config(ROOT / "examples" / "flights-demo.yaml", [f"run={run}"])
    accelerator, histories = accelerator_of(config), read_histories(run)
    tokenizer = load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    identity = adapter_identity(config.model, encoder, tokenizer, histories.title_recipe)
    trie = encoder.catalogue.trie
    _, prior = on_top_of(config, histories, trie, accelerator)
    base = load_base_model(config.model)
    set_up_base(base, config.finetune)
    lora = add_lora(base, config.finetune)
    module: Any = CatalogueModel(lora, config.temperature)
    optimizer = make_optimizer([p for p in module.parameters() if p.requires_grad], config.finetune, accelerator.device)
    module, optimizer = accelerator.prepare(module, optimizer)
    seconds = np.zeros((NUM_STEPS + 1, 2))
    with tempfile.TemporaryDirectory() as folder:
        kinds = [
            open_examples(Path(folder) / name, histories, encoder, identity, config.finetune, one)
            for name, one in (("without", None), ("with", prior))
        ]
        steps = Schedule(kinds[0].length_W, config.finetune, config.seed, 1).steps()
        for step, (batches, _) in zip(range(NUM_STEPS + 1), steps, strict=False):
            for kind in (step % 2, 1 - step % 2):
                began = time.perf_counter()
                with accelerator.autocast():
                    loss = module(kinds[kind][batches[0]].to(accelerator.device))
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                loss.item()
                seconds[step, kind] = time.perf_counter() - began
    without_s, with_s = (float(value) for value in seconds[1:].sum(0))  # the first step warms up
    ratio = with_s / without_s
    figures = {"steps": NUM_STEPS, "without_s": without_s, "with_s": with_s}
    return figures, [
        bar("flights-demo, seconds of training steps with the prior over without", ratio, "<= 1.1", ratio <= 1.1)
    ]


def _large(rng: np.random.Generator) -> tuple[Histories, Trie]:
    """Made-up histories of 200 users, each with 100 of a thousand popular items, and a trie of all titles."""
    length, num_users, num_events = 6, 200, 100
    token_IL = rng.integers(3, 30_000, (NUM_TITLES, length)).astype(np.int32)
    token_IL[:, 0] = 3 + rng.zipf(1.3, NUM_TITLES) % 20_000
    token_IL[:, -2] = 30_000 + np.arange(NUM_TITLES)  # no two titles are the same
    token_IL[:, -1] = 2  # ends every title
    trie = build_trie_ragged(token_IL.ravel(), np.arange(NUM_TITLES + 1) * length)
    items = pl.DataFrame({"item_id": [str(i) for i in range(NUM_TITLES)]})
    start = datetime(2026, 1, 1, tzinfo=UTC)
    user_N = np.repeat(np.arange(num_users), num_events)
    events = pl.DataFrame({
        "user_id": [f"{user:04}" for user in user_N], "user_idx": user_N.astype(np.int32),
        "item_idx": rng.integers(0, 1_000, len(user_N)).astype(np.int32),
        "time": [start + timedelta(minutes=37 * n + user) for user in range(num_users) for n in range(num_events)],
    })  # fmt: skip
    events = events.with_columns(local_time=pl.col("time").dt.replace_time_zone(None), split=pl.lit("train"))
    manifest = {"location": "outcome", "data_hash": "made up", "catalogue_hash": "made up", "settings": {}}
    return build_histories(events, items, manifest), trie


def _request(known: Histories, user: int) -> pl.DataFrame:
    """A user's events, and the query as last row."""
    events = known.events.filter(pl.col("user_idx") == user)
    last = events[-1].with_columns(
        pl.lit(-1, pl.Int32).alias("item_idx"), pl.col("time", "local_time").dt.offset_by("1h")
    )
    return pl.concat([events, last])


def _masses(change_of: Callable[[pl.DataFrame], Change], trie: Trie, request: pl.DataFrame) -> None:
    change, node, query_X = change_of(request), 0, np.zeros(1, np.int64)
    for _ in range(6):
        for pool in change.pools:
            assert pool.prior is not None
            pool.prior.masses(query_X, np.array([node]))
        below_C = trie.child_node_C[trie.child_ptr_B1[node] : trie.child_ptr_B1[node + 1]]
        below_C = below_C[below_C >= 0]
        if not len(below_C):
            break
        node = int(below_C[0])


if __name__ == "__main__":
    sys.exit(main())
