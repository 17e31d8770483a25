"""What decisions cost, against a loop over nodes: values, gradients, teachers, and that no device is waited for."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from whereupon.arrays import Int64
from whereupon.catalogue import Trie, build_trie
from whereupon.decode.output_layer import OutputLayer
from whereupon.finetune import branches as module
from whereupon.finetune.branches import States, branches_of, branches_on_top, nats_of
from whereupon.finetune.tensors import OfTensors

pytestmark = pytest.mark.usefixtures("one_thread")

HIDDEN, VOCABULARY, SEEDS = 5, 11, range(5)


def _trie(seed: int) -> Trie:
    rng = np.random.default_rng(seed)
    titles = {tuple(rng.integers(1, 6, rng.integers(1, 5)).tolist()) for _ in range(20)}
    return build_trie([[*title, 0] for title in sorted(titles | {(9,), (10,)})])


def _decisions(trie: Trie, seed: int, num: int) -> tuple[Int64, Int64]:
    rng = np.random.default_rng(seed)
    node_P = rng.integers(0, trie.num_nodes, num)
    count_P = np.diff(trie.child_ptr_B1)[node_P]
    return node_P, trie.child_ptr_B1[node_P] + rng.integers(0, 1 << 20, num) % count_P


def _states(seed: int, num: int, temperature: float, has_bias: bool = True) -> States:
    generator = torch.Generator().manual_seed(seed)
    hidden_PH, weight_VH = (torch.randn(n, HIDDEN, generator=generator) for n in (num, VOCABULARY))
    bias_V = torch.randn(VOCABULARY, generator=generator) if has_bias else None
    return States(hidden_PH.requires_grad_(), OutputLayer(weight_VH, bias_V, scale=0.5, cap=3.0), temperature)


def _log_probs(of: States, trie: Trie, node_P: Int64, at: int) -> Tensor:
    """Float64 log-probabilities of the edges of one decision's node."""
    edges = slice(*trie.child_ptr_B1[node_P[at] : node_P[at] + 2].tolist())
    token = torch.from_numpy(trie.child_token_C[edges].astype(np.int64))
    return (of.output.logits(of.hidden_PH[at : at + 1])[0, token].double() / of.temperature).log_softmax(0)


def _naive(own: States, teacher: States | None, share: float, trie: Trie, node_P: Int64, edge_P: Int64) -> Tensor:
    nats = []
    for at in range(len(node_P)):
        said = _log_probs(own, trie, node_P, at)
        value = -said[int(edge_P[at] - trie.child_ptr_B1[node_P[at]])]
        if teacher is not None:
            taught = _log_probs(teacher, trie, node_P, at).detach()
            value = (1 - share) * value + share * (taught.exp() * (taught - said)).sum()
        nats.append(value)
    return torch.stack(nats)


@pytest.fixture(params=["narrow", "wide"])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All nodes by index, or those with more than two edges by matrix products over some positions at a time."""
    if request.param == "wide":
        monkeypatch.setattr(module, "WIDE", 2)
        monkeypatch.setattr(module, "_DENSE_LOGITS", 10)
    return str(request.param)


@pytest.mark.parametrize("share", [None, 0.3, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_value_and_gradient_are_those_of_the_naive_loop(width: str, seed: int, share: float | None) -> None:
    trie = _trie(seed)
    node_P, edge_P = _decisions(trie, seed, 40)
    found = branches_of(trie, node_P, edge_P)
    assert bool(found.wide) is (width == "wide")
    own, other = _states(seed, 40, 0.7, has_bias=seed % 2 == 0), _states(seed + 50, 40, 1.5)
    teacher = None if share is None else States(other.hidden_PH.detach(), other.output, other.temperature)
    results = []
    for nats_P in (nats_of(own, found, teacher, share or 0.0),
                   _naive(own, teacher, share or 0.0, trie, node_P, edge_P)):  # fmt: skip
        [slope] = torch.autograd.grad((nats_P * torch.arange(1, 41)).sum(), own.hidden_PH)
        results.append((nats_P.detach().float(), slope))
    for value, expected in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=5e-5)


@pytest.mark.usefixtures("width")
def test_student_that_is_its_teacher_has_nothing_to_learn_from_it() -> None:
    trie = _trie(1)
    own = _states(1, 12, 0.7)
    teacher = States(own.hidden_PH.detach(), own.output, own.temperature)
    nats_P = nats_of(own, branches_of(trie, *_decisions(trie, 1, 12)), teacher, 1.0)
    [slope] = torch.autograd.grad(nats_P.sum(), own.hidden_PH)
    assert nats_P.detach().abs().max() < 1e-6
    assert slope.abs().max() < 1e-6


def test_masses_of_a_prior_are_added_for_student_and_teacher() -> None:
    """One node of edges 1, 2, 3, of which a prior gives mass to two: 0.2 and 0.8."""
    trie = build_trie([[1, 0], [2, 0], [3, 0]])
    mass_J = np.array([0.2, 0.8], np.float32)
    none = np.zeros(2, np.int64)
    found = branches_on_top(trie, np.array([0, 2]), none, np.array([1]), np.log(mass_J))
    own, other = _states(1, 1, 2.0), _states(2, 1, 1.0)
    log_probs = []
    for of in (own, other):
        logits = of.output.logits(of.hidden_PH)[0, [1, 3]].double() / of.temperature
        log_probs.append((logits + torch.from_numpy(np.log(mass_J)).double()).log_softmax(0))
    said, taught = log_probs
    expected = 0.5 * -said[1] + 0.5 * (taught.exp() * (taught - said)).sum()
    assert nats_of(own, found, other, 0.5).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.usefixtures("width")
def test_loss_and_gradient_ask_nothing_of_the_device() -> None:
    """On tensors without values, what depends on one cannot be computed: a GPU would have to be waited for."""
    trie = _trie(2)
    found, mode = branches_of(trie, *_decisions(trie, 2, 20)), FakeTensorMode()

    def without_values(one: Any) -> Any:
        return one._each(without_values) if isinstance(one, OfTensors) else mode.from_tensor(one)

    with mode:

        def there() -> States:
            hidden_PH, weight_VH = torch.empty(20, HIDDEN, requires_grad=True), torch.empty(VOCABULARY, HIDDEN)
            return States(hidden_PH, OutputLayer(weight_VH), 1.0)

        nats_P = nats_of(there(), without_values(found), there(), 0.5)
        assert nats_P.shape == (20,)
        nats_P.sum().backward()  # type: ignore[no-untyped-call]
        with pytest.raises(DataDependentOutputException):
            nats_P.tolist()
