"""How good is the model of examples/nyc-checkins.yaml on the test split? Half an hour on two cores.

    WHEREUPON_NYC_CHECKINS=<folder of the three files> python bench/evaluate_nyc.py

Needs the run folder after `whereupon prepare` and `whereupon finetune`. Writes bench/results/evaluate_nyc.json; exits
with 1 if a bar is missed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from record import bar, record

from whereupon.config import load_config
from whereupon.decode.adapters import current_adapter
from whereupon.decode.models import read_card
from whereupon.eval import as_json
from whereupon.eval.run import evaluate

CONFIG = Path(__file__).parents[1] / "examples" / "nyc-checkins.yaml"
NUM_EVENTS = 4113


def main() -> int:
    """Evaluate and compare; the exit status."""
    config = load_config(CONFIG)
    results = evaluate(config, split="test")
    tuned = results[-1]
    wall_s = tuned.wall_s or 0.0  # a resumed evaluation counts what was spent before
    bars = [
        bar("test events", tuned.num_events, f"= {NUM_EVENTS}", tuned.num_events == NUM_EVENTS),
        bar("nDCG@10, fine-tuned", tuned.metrics["nDCG@10"], "> 0.520", tuned.metrics["nDCG@10"] > 0.520),
        bar("evaluation, minutes", wall_s / 60, "<= 60", wall_s <= 3600),
    ]
    table, training = as_json(results), read_card(current_adapter(config.run))
    return record("evaluate_nyc", config.seed, bars, table=table, training=training)


if __name__ == "__main__":
    sys.exit(main())
