"""Exact Shapley values of a game with few players.

The value of player g is its marginal contribution, averaged over all orders of the players. It is the sum over the sets
S without g of |S|! (n - |S| - 1)! / n! * (v(S with g) - v(S)). The values of all players add up to v(all) - v(none).
Source: Lloyd Shapley, "A value for n-person games", Contributions to the Theory of Games 2 (1953).

Shapes: G = players, S = 2**G sets, numbered by their bits (bit g: player g is in it), K = games side by side.
"""

from __future__ import annotations

import math

import numpy as np

from ..arrays import Float64


def shapley_values(value_SK: Float64) -> Float64:
    """float64 [G, K]: the value of every player in K games, of which `value_SK` (float64 [2**G, K]) are v(S).

    Raises ValueError unless the number of rows is a power of two.
    """
    num_sets = len(value_SK)
    num = num_sets.bit_length() - 1
    if num_sets != 1 << num:
        raise ValueError(f"a game has 2**G sets, not {num_sets}")
    set_S = np.arange(num_sets)
    size_S = np.array([bits.bit_count() for bits in range(num_sets)])
    weight_N = np.array([math.factorial(s) * math.factorial(num - s - 1) / math.factorial(num) for s in range(num)])
    value_GK = np.zeros((num, *value_SK.shape[1:]))
    for player in range(num):
        without = set_S[set_S >> player & 1 == 0]
        gain = value_SK[without | 1 << player] - value_SK[without]
        value_GK[player] = np.tensordot(weight_N[size_S[without]], gain, axes=1)
    return value_GK
