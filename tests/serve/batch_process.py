"""A batch in a process of its own, in parts of a user each: `python batch_process.py CONFIG RUN OUT`."""

import sys
from pathlib import Path

import torch

from whereupon.config import load_config
from whereupon.recommend.context import RequestContext
from whereupon.recommend.selection import RequestFilters
from whereupon.serve.batch import parts
from whereupon.serve.batch.verb import recommend_all
from whereupon.tests.serve.light_engine import light_engine

RAIN = RequestContext(weather="rain, 18 C")


def main(config: str, run: str, out: str) -> None:
    torch.set_num_threads(1)
    parts.PART_USERS = 1
    loaded = load_config(Path(config), [f"run={run}"])
    recommend_all(loaded, Path(out), context=RAIN, filters=RequestFilters(), k=3, engine=light_engine)


if __name__ == "__main__":
    main(*sys.argv[1:])
