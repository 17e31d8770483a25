"""Where small networks are trained, and with which random numbers; needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def own_seed(seed: int) -> Iterator[None]:
    """Random numbers of this seed and one thread; torch's global generators and its threads are as before afterwards.

    Networks this small are not faster on several cores, and much slower where these are shared.
    """
    before = torch.get_num_threads()
    places = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=places):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)
