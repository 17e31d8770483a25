"""A model that is a table of random numbers, small tries, and brute force over them."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import strategies as st

from whereupon.arrays import Int64
from whereupon.catalogue import Subset, Trie, build_trie
from whereupon.decode import frontier
from whereupon.decode.protocol import FROM_PROMPT, Scored
from whereupon.decode.reweighting import AgainOrNew, ItemPrior, Reweighting

KINDS = ("random", "peaked", "uniform", "few values")


@dataclass
class TableReading:
    """Random distributions for every question and node, always the same for a seed; counts its calls.

    "peaked" ones give one edge everything that float32 can hold, so that children tie with parents; "few values" and
    "uniform" make items tie. Insists on the protocol: a node comes with the handle of the node above it.
    """

    trie: Trie
    num_queries: int
    seed: int
    kind: str
    rounds: int = 0
    seen: list[tuple[int, int]] = field(default_factory=list)  # question and node by handle

    def score(self, query_X: Int64, node_X: Int64, parent_X: Int64) -> Scored:
        self.rounds += 1
        first = len(self.seen)
        for query, node, parent in zip(query_X.tolist(), node_X.tolist(), parent_X.tolist(), strict=True):
            above = np.flatnonzero(self.trie.child_node_C == node)
            if parent == FROM_PROMPT:
                assert not len(above), "only the topmost node comes from the prompt"
            else:
                assert self.seen[parent] == (query, self.trie.parent_node_of_edge_C[above[0]])
            assert (query, node) not in self.seen, "no node is scored twice"
            self.seen.append((query, node))
        pairs = zip(query_X.tolist(), node_X.tolist(), strict=True)
        log_prob_J = np.concatenate([self.log_probs(query, node) for query, node in pairs])
        return Scored(log_prob_J, np.arange(first, len(self.seen)))

    def log_probs(self, query: int, node: int) -> np.ndarray:
        """float32: log-probabilities of one node's edges."""
        generator = np.random.default_rng([self.seed, query, node])
        num = int(self.trie.child_ptr_B1[node + 1] - self.trie.child_ptr_B1[node])
        logits = {
            "random": lambda: generator.normal(0, 2, num),
            "peaked": lambda: np.where(np.arange(num) == generator.integers(num), 0.0, -30.0),
            "uniform": lambda: np.zeros(num),
            "few values": lambda: np.log(generator.choice([1.0, 2.0], num)),
        }[self.kind]()
        return np.asarray(logits - np.log(np.exp(logits).sum()), np.float32)


@dataclass
class FixedReading:
    """The same table, node by node, for every one of many questions."""

    trie: Trie
    num_queries: int
    probs: list[list[float]]

    def score(self, query_X: Int64, node_X: Int64, parent_X: Int64) -> Scored:
        found = np.concatenate([np.log(np.array(self.probs[node])) for node in node_X])
        return Scored(found.astype(np.float32), np.zeros(len(node_X), np.int64))


def brute_force(reading: TableReading, query: int) -> np.ndarray:
    """float32 [I]: every item's log-probability, one title after the other, added from the top down."""
    trie, log_probs = reading.trie, []
    for item in range(trie.num_items):
        _, nodes, edges = trie.decisions(np.array([item]))
        total = np.float32(0)
        for node, edge in zip(nodes, edges, strict=True):
            total = np.float32(total + reading.log_probs(query, int(node))[edge - trie.child_ptr_B1[node]])
        log_probs.append(total)
    return np.array(log_probs, np.float32)


def naive_masses(trie: Trie, node: int, mass_I: np.ndarray) -> np.ndarray:
    """float64: the mass of the items (by item index) below each edge of a node, summed one by one."""
    begins = trie.child_lo_C[trie.child_ptr_B1[node] : trie.child_ptr_B1[node + 1]].tolist()
    bounds = itertools.pairwise([*begins, int(trie.row_hi_B[node])])
    return np.array([sum(mass_I[trie.item_of_row_I[row]] for row in range(lo, hi)) for lo, hi in bounds])


def naive_reweighted(
    reading: TableReading, query: int, temperature: float, weight: float, mass_I: np.ndarray
) -> np.ndarray:
    """float64 [I]: log-probability of every item under the definition of reweighting, node by node in Python."""
    trie, nodes = reading.trie, []
    for node in range(trie.num_nodes):
        log_prob = reading.log_probs(query, node).astype(np.float64)
        score = log_prob / temperature + weight * np.log(naive_masses(trie, node, mass_I))
        nodes.append(score - np.logaddexp.reduce(score))
    owner_P, node_P, edge_P = trie.decisions(np.arange(trie.num_items))
    taken_P = [nodes[node][edge - trie.child_ptr_B1[node]] for node, edge in zip(node_P, edge_P, strict=True)]
    return np.bincount(owner_P, taken_P, minlength=trie.num_items)


def best(trie: Trie, log_prob_I: np.ndarray, k: int, subset: Subset | None = None) -> Int64:
    """The first k allowed items by probability, ties by title order."""
    order = np.lexsort((trie.row_of_item_I, -log_prob_I))
    return order[allowed(trie, subset)[order]][:k]


def allowed(trie: Trie, subset: Subset | None) -> np.ndarray:
    """bool [I] by item index."""
    return np.ones(trie.num_items, bool) if subset is None else np.diff(subset.before)[trie.row_of_item_I] > 0


def make_trie(seed: int, num_items: int) -> Trie:
    """Titles of up to six tokens out of few, so that many branch deep; the last token ends them all."""
    generator = np.random.default_rng(seed)
    alphabet = int(generator.integers(2, 5))
    every = [list(t) for length in range(1, 6) for t in itertools.product(range(1, alphabet + 1), repeat=length)]
    chosen = generator.permutation(len(every))[:num_items]
    return build_trie([[*every[i], 0] for i in chosen])


def make_subset(trie: Trie, seed: int, share: float) -> Subset | None:
    """Each item is allowed with a chance of `share`; None for all of them."""
    chosen = np.random.default_rng(seed).random(trie.num_items) < share
    return None if share == 1 else Subset.of(trie, chosen, "those that chance allows")


def make_reweighting(
    trie: Trie, seed: int, num_queries: int, temperature: float, weight: float
) -> tuple[Reweighting, np.ndarray]:
    """With masses over many orders of magnitude and own items, some named twice; float64 [Q, I]: each item's mass."""
    generator = np.random.default_rng(seed)
    base_I = np.exp(generator.normal(0, 3, trie.num_items))
    mass_QI, own = np.tile(base_I, (num_queries, 1)), []
    for query in range(num_queries):
        item_M = generator.integers(0, trie.num_items, generator.integers(0, 6))
        own.append((item_M, generator.choice([0.0, 0.5, 20.0], len(item_M))))
        np.add.at(mass_QI[query], item_M, own[-1][1])
    return Reweighting(temperature, weight, ItemPrior(trie, base_I, own)), mass_QI


@dataclass(frozen=True)
class Mixture:
    """An `AgainOrNew` and what it was made of: float64 [Q, I] masses of each part, by item index."""

    change: AgainOrNew
    again_QI: np.ndarray
    new_QI: np.ndarray

    def naive(self, reading: TableReading, query: int) -> np.ndarray:
        """float64 [I]: log((1 - g) * again + g * new) of every item, each part node by node in Python."""
        odds, none_I = float(self.change.log_odds_Q[query]), np.full(reading.trie.num_items, -np.inf)
        parts = [none_I, none_I]
        for part, (pool, mass_QI) in enumerate(zip(self.change.pools, (self.again_QI, self.new_QI), strict=True)):
            if mass_QI[query].any():
                parts[part] = naive_pooled(reading, query, pool.temperature, pool.weight, mass_QI[query])
        return np.logaddexp(parts[0] - np.logaddexp(0, odds), parts[1] - np.logaddexp(0, -odds))


def naive_pooled(
    reading: TableReading, query: int, temperature: float, weight: float, mass_I: np.ndarray
) -> np.ndarray:
    """float64 [I]: as `naive_reweighted`, for masses that may be 0; -inf for items without one."""
    trie, found = reading.trie, []
    for item in range(trie.num_items):
        _, nodes, edges = trie.decisions(np.array([item]))
        total = 0.0 if mass_I[item] else -np.inf
        for node, edge in zip(nodes, edges, strict=True) if mass_I[item] else ():
            mass = naive_masses(trie, int(node), mass_I)
            score = reading.log_probs(query, int(node)).astype(np.float64) / temperature
            score[mass > 0] += weight * np.log(mass[mass > 0])
            total += score[edge - trie.child_ptr_B1[node]] - np.logaddexp.reduce(score[mass > 0])
        found.append(total)
    return np.array(found)


def make_mixture(
    trie: Trie, seed: int, num_queries: int, temperature: float, weight: float, known: float, with_base: bool = False
) -> Mixture:
    """Each item was chosen before with a chance of `known`. Without a base some masses are 0.

    The odds are infinite where a part has no mass.
    """
    generator = np.random.default_rng(seed)
    shape = num_queries, trie.num_items
    is_known_QI = generator.random(shape) < known
    mass_QI = np.exp(generator.normal(0, 3, shape))
    base_I = np.exp(generator.normal(0, 1, trie.num_items)) if with_base else None
    if base_I is not None:
        mass_QI[:, ::2] = np.where(is_known_QI, mass_QI, base_I)[:, ::2]  # as the base has it
    else:
        mass_QI[~is_known_QI & (generator.random(shape) < 0.3)] = 0.0
    again_QI, new_QI = np.where(is_known_QI, mass_QI, 0.0), np.where(is_known_QI, 0.0, mass_QI)
    odds_Q = generator.choice([-30.0, -1.0, 0.0, 2.0, 30.0, 800.0], num_queries)
    odds_Q = np.where(again_QI.any(axis=1), odds_Q, np.inf)
    odds_Q = np.where(new_QI.any(axis=1), odds_Q, -np.inf)
    items = [generator.permutation(np.flatnonzero(row_I)) for row_I in again_QI]
    again = [(item_M, row_I[item_M]) for item_M, row_I in zip(items, again_QI, strict=True)]
    new = [(np.arange(trie.num_items), row_I - (0.0 if base_I is None else base_I)) for row_I in new_QI]
    of_again = Reweighting(temperature, weight, ItemPrior(trie, None, again))
    of_new = Reweighting(2 / temperature, 1.0, ItemPrior(trie, base_I, new))
    return Mixture(AgainOrNew(of_again, of_new, odds_Q), again_QI, new_QI)


@contextmanager
def held(little: bool) -> Iterator[None]:
    """Make a frontier hold as few entries as it may, so that toy tries have a reserve too."""
    with pytest.MonkeyPatch.context() as patch:
        if little:
            patch.setattr(frontier, "HELD_PER_K", 1)
            patch.setattr(frontier, "HELD_AT_LEAST", 1)
            patch.setattr(frontier, "CROWDED", 2)
        yield


tries = st.builds(make_trie, st.integers(0, 10_000), st.integers(1, 40))
seeds, kinds, sizes, questions = st.integers(0, 10_000), st.sampled_from(KINDS), st.integers(1, 12), st.integers(1, 4)
shares = st.sampled_from([1.0, 0.6, 0.2, 0.0])
temperatures, weights = st.sampled_from([0.3, 1.0, 2.5]), st.sampled_from([0.0, 0.4, 1.5])
