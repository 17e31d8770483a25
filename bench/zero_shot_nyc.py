"""What is the fine-tuning worth? The base model and the fine-tuned one on the same test events.

    WHEREUPON_NYC_CHECKINS=<folder of the three files> python bench/zero_shot_nyc.py [--events N]

Needs the run folder of examples/nyc-checkins.yaml after `whereupon prepare` and `whereupon finetune`. What is answered
there is read, which takes seconds; else an hour and a quarter on two cores, or ten to twenty minutes with --events 500.
Writes bench/results/zero_shot_nyc.json; exits with 1 if the fine-tuned model is no better than the base model.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from record import bar, record

from whereupon.config import load_config
from whereupon.eval import as_json
from whereupon.eval.run import evaluate

CONFIG = Path(__file__).parents[1] / "examples" / "nyc-checkins.yaml"


def main() -> int:
    """Evaluate both and compare; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, metavar="N", help="only so many test events, drawn with the seed")
    limit = parser.parse_args().events
    config = load_config(CONFIG)
    results = evaluate(config, split="test", limit=limit)
    results.append(evaluate(config, split="test", use_adapter=False, limit=limit)[-1])
    gain = results[-2].metrics["nDCG@10"] - results[-1].metrics["nDCG@10"]
    bars = [bar("nDCG@10, fine-tuned above zero-shot", gain, "> 0", gain > 0)]
    return record("zero_shot_nyc", config.seed, bars, table=as_json(results))


if __name__ == "__main__":
    sys.exit(main())
