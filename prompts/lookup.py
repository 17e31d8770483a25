"""Words by number."""

import numpy as np
import polars as pl
from numpy.typing import NDArray


def words_at(words: pl.Series, number_N: NDArray[np.integer]) -> pl.Series:
    """`words[number_N]` for numbers from 0 on, in half of the time: polars looks for negative ones where there may be
    some. A prompt has some fifteen such columns of few rows."""
    return words[pl.Series(number_N.astype(np.uint32))]
