"""The catalogue distribution in torch against a loop over nodes that softmaxes the whole vocabulary."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from whereupon.catalogue import Trie, build_trie
from whereupon.decode.branching import TrieTensors, edge_log_probs
from whereupon.decode.output_layer import OutputLayer

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
VOCABULARY, HIDDEN = 11, 5


def _make_trie(seed: int) -> Trie:
    generator = np.random.default_rng(seed)
    titles = {
        tuple(generator.integers(1, 6, generator.integers(1, 5)).tolist()) for _ in range(generator.integers(2, 30))
    }
    return build_trie([[*title, 0] for title in sorted(titles | {(9,), (10,)})])


def _naive(
    hidden_XH: Tensor, nodes: list[int], trie: Trie, weight_VH: Tensor, bias_V: Tensor | None, temperature: float
) -> list[Tensor]:
    """Per node: the vocabulary's softmax, of which only the node's edges are kept and made to sum to 1."""
    found = []
    for hidden_H, node in zip(hidden_XH.double(), nodes, strict=True):
        logits_V = weight_VH.double() @ hidden_H
        if bias_V is not None:
            logits_V = logits_V + bias_V.double()
        probability_V = torch.softmax(logits_V / temperature, 0)
        edges = slice(int(trie.child_ptr_B1[node]), int(trie.child_ptr_B1[node + 1]))
        kept = probability_V[torch.from_numpy(trie.child_token_C[edges].astype(np.int64))]
        found.append((kept / kept.sum()).log())
    return found


def _case(seed: int, num: int, scale: float) -> tuple[Trie, list[int], Tensor, Tensor, Tensor]:
    trie = _make_trie(seed)
    nodes = np.random.default_rng(seed).integers(0, trie.num_nodes, num).tolist()
    generator = torch.Generator().manual_seed(seed)
    shapes = ((num, HIDDEN), (VOCABULARY, HIDDEN), (VOCABULARY,))
    hidden_XH, weight_VH, bias_V = (torch.randn(shape, generator=generator) * scale for shape in shapes)
    return trie, nodes, hidden_XH, weight_VH, bias_V


seeds, counts, scales = st.integers(0, 10_000), st.integers(1, 8), st.sampled_from([0.1, 1.0, 2.0])
temperatures = st.sampled_from([0.3, 1.0, 2.5])


@given(seeds, counts, scales, temperatures, st.booleans())
@settings(deadline=None)
def test_log_probabilities_are_those_of_the_naive_loop(
    seed: int, num: int, scale: float, temperature: float, has_bias: bool
) -> None:
    trie, nodes, hidden_XH, weight_VH, bias_V = _case(seed, num, scale)
    bias = bias_V if has_bias else None
    found_J, first_X = edge_log_probs(
        hidden_XH, torch.tensor(nodes), TrieTensors.of(trie, CPU), OutputLayer(weight_VH, bias), temperature
    )
    naive = _naive(hidden_XH, nodes, trie, weight_VH, bias, temperature)
    torch.testing.assert_close(found_J, torch.cat(naive).float(), rtol=1e-4, atol=1e-4)
    assert found_J.dtype == torch.float32
    assert first_X.tolist() == np.cumsum([0, *map(len, naive)])[:-1].tolist()
    assert (found_J <= 0).all(), "or a child could be more probable than its parent"
    for part in found_J.split([len(part) for part in naive]):
        assert float(part.double().exp().sum()) == pytest.approx(1, abs=1e-5)


@given(seeds, counts, temperatures)
@settings(deadline=None)
def test_gradient_is_that_of_the_naive_loop(seed: int, num: int, temperature: float) -> None:
    trie, nodes, hidden_XH, weight_VH, bias_V = _case(seed, num, 1.0)
    one, other = hidden_XH.clone().requires_grad_(), hidden_XH.clone().requires_grad_()
    tensors = TrieTensors.of(trie, CPU)
    found_J, _ = edge_log_probs(one, torch.tensor(nodes), tensors, OutputLayer(weight_VH, bias_V), temperature)
    naive_J = torch.cat(_naive(other, nodes, trie, weight_VH, bias_V, temperature))
    weight_J = torch.randn(len(found_J), generator=torch.Generator().manual_seed(seed))
    (found_J * weight_J).sum().backward()
    (naive_J * weight_J).sum().backward()
    assert one.grad is not None
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


def test_autocast_to_bfloat16_leaves_the_distribution_in_float32() -> None:
    trie, nodes, hidden_XH, weight_VH, bias_V = _case(3, 6, 1.0)
    arguments = (torch.tensor(nodes), TrieTensors.of(trie, CPU), OutputLayer(weight_VH, bias_V), 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        found_J, _ = edge_log_probs(hidden_XH, *arguments)
    assert found_J.dtype == torch.float32
    assert found_J.tolist() == edge_log_probs(hidden_XH, *arguments)[0].tolist()


def test_bfloat16_hidden_states_and_weights_are_projected_in_float32() -> None:
    trie, nodes, hidden_XH, weight_VH, bias_V = _case(4, 6, 1.0)
    low = (hidden_XH.bfloat16(), weight_VH.bfloat16(), bias_V.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        found_J, _ = edge_log_probs(low[0], torch.tensor(nodes), TrieTensors.of(trie, CPU), OutputLayer(*low[1:]), 1.0)
    assert found_J.dtype == torch.float32
    torch.testing.assert_close(found_J, torch.cat(_naive(low[0], nodes, trie, *low[1:], 1.0)).float())


def test_huge_logits_neither_overflow_nor_vanish() -> None:
    """One node of two edges, logits 2000 and -2000: the second has log-probability -4000, not minus infinity."""
    trie = TrieTensors.of(build_trie([[1, 0], [2, 0]]), CPU)
    weight_VH = torch.tensor([[0.0], [2000.0], [-2000.0]])
    found_J, _ = edge_log_probs(torch.ones(1, 1), torch.tensor([0]), trie, OutputLayer(weight_VH), 1.0)
    assert found_J.tolist() == [0.0, -4000.0]


def test_no_nodes_have_no_edges() -> None:
    trie, _, _, weight_VH, bias_V = _case(5, 1, 1.0)
    found_J, first_X = edge_log_probs(
        torch.empty(0, HIDDEN),
        torch.empty(0, dtype=torch.int64),
        TrieTensors.of(trie, CPU),
        OutputLayer(weight_VH, bias_V),
        1.0,
    )
    assert (found_J.tolist(), first_X.tolist()) == ([], [])
