"""Memory and speed of a LoRA training, computed where nothing was measured: two tables of docs/hardware.md.

Memory is that of a step as `finetune.memory` plans it, with bfloat16 weights and autocast, and Llama-like layers:

- weights: 2 bytes each. With NF4: half a byte for those of the layers, and 0.016 for their scales (QLoRA, section 3).
- adapter: 16 bytes each (float32 weight, gradient, two numbers of AdamW).
- activations that the backward pass needs: 24 h + 8 m + 4 k + 16 r bytes a token and layer, for hidden size h,
  intermediate size m, width k of the keys, and rank r. `tests/test_hardware.py` compares it with what torch saves.
- not counted: the CUDA context (about half a GB), and the logits of the trie's branches, which depend on the catalogue.

Speed counts multiplications. A frozen weight costs 4 operations a token (2 forward, 2 for the gradient of its input), a
weight of the adapter 6. Attention and the output layer are not counted. A GPU reaches `UTILISATION` of its peak.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

RANK: Final = 32  # the default of finetune.rank
BATCH_TOKENS: Final = 2048  # the default of finetune.batch_tokens
TOKENS_PER_EVENT: Final = 20  # of one epoch: 19 in flights-demo, 16 in nyc-checkins, 10 in movielens-100k
UTILISATION: Final = 0.3  # of a GPU's peak: an assumption
NUM_EVENTS: Final = (10_000, 100_000, 1_000_000)
_NF4_BYTES: Final = 0.5 + 0.127 / 8


@dataclass(frozen=True)
class Model:
    """The shape of a base model of Llama-like layers, from its config.json."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    key_width: int
    vocabulary: int
    tied: bool = True

    @property
    def layer_weights(self) -> int:
        """Of all linear layers but the output layer."""
        attention = 2 * self.hidden * (self.hidden + self.key_width)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def embedding_weights(self) -> int:
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def weights(self) -> int:
        """Without norms and biases, which are less than 0.1 %."""
        return self.layer_weights + self.embedding_weights

    @property
    def adapter_weights(self) -> int:
        """LoRA on all linear layers: a row of `RANK` numbers for each input and each output."""
        h, m, k = self.hidden, self.intermediate, self.key_width
        return self.layers * RANK * (2 * (h + h) + 2 * (h + k) + 3 * (h + m))


@dataclass(frozen=True)
class Machine:
    """A machine, the models that its row of the table is about, and its speed.

    Either `peak`, the dense 16-bit operations a second of its data sheet, or `measured`: a model and its tokens/s.
    """

    name: str
    memory_gb: float
    models: tuple[Model, ...]
    peak: float = 0.0
    measured: tuple[Model, float] | None = None


SMOLLM2_135M: Final = Model("SmolLM2-135M", 30, 576, 1536, 192, 49_152)
MODELS: Final = (
    SMOLLM2_135M,
    Model("SmolLM2-360M", 32, 960, 2560, 320, 49_152),
    Model("Qwen2.5-0.5B", 24, 896, 4864, 128, 151_936),
    Model("Qwen2.5-1.5B", 28, 1536, 8960, 256, 151_936),
    Model("Qwen2.5-3B", 36, 2048, 11_008, 256, 151_936),
    Model("Qwen2.5-7B", 28, 3584, 18_944, 512, 152_064, tied=False),
)
# On a GPU, smaller models wait for the start of each operation: they are far slower than the formula says.
_SMALL, _LARGE = MODELS[:4], MODELS[3:]
MACHINES: Final = (
    Machine("2 CPU cores, AVX-512 bf16", 24, _SMALL, measured=(SMOLLM2_135M, 280.0)),  # LOG.md: flights-demo
    Machine("L4", 24, _LARGE[:2], peak=121e12),
    Machine("RTX 4090", 24, _LARGE[:2], peak=165e12),
    Machine("A100", 80, _LARGE, peak=312e12),
    Machine("H100 SXM", 80, _LARGE, peak=989e12),
)


def activation_bytes(model: Model) -> int:
    """What one token of a batch saves for the backward pass."""
    return model.layers * (24 * model.hidden + 8 * model.intermediate + 4 * model.key_width + 16 * RANK)


def training_bytes(model: Model, *, nf4: bool = False, checkpointing: bool = False) -> float:
    """Bytes of a step with `BATCH_TOKENS`. Checkpointing keeps the input of each layer, and one layer's activations."""
    weights = 2 * model.weights
    if nf4:
        weights = int(_NF4_BYTES * model.layer_weights) + 2 * model.embedding_weights
    saved = activation_bytes(model)
    if checkpointing:
        saved = saved // model.layers + 2 * model.layers * model.hidden
    return weights + 16 * model.adapter_weights + BATCH_TOKENS * saved


def operations(model: Model) -> int:
    """Of one token, forward and backward."""
    return 4 * model.layer_weights + 6 * model.adapter_weights


def tokens_per_s(model: Model, machine: Machine) -> float:
    """From the machine's peak, or from what was measured on it with another model."""
    if machine.measured is not None:
        known, rate = machine.measured
        return rate * operations(known) / operations(model)
    return UTILISATION * machine.peak / operations(model)


def memory_table() -> Iterator[str]:
    """One line for each model."""
    yield "| base model | weights | bf16 | bf16, checkpointing | NF4 | NF4, checkpointing |"
    yield "|---|---|---|---|---|---|"
    ways = [(nf4, recomputed) for nf4 in (False, True) for recomputed in (False, True)]
    for model in MODELS:
        sizes = [f"{training_bytes(model, nf4=nf4, checkpointing=again) / 1e9:.1f} GB" for nf4, again in ways]
        yield f"| {model.name} | {model.weights / 1e9:.2f} billion | {' | '.join(sizes)} |"


def speed_table() -> Iterator[str]:
    """One line for each machine and each of its models; they are trained without quantisation and checkpointing."""
    events = " | ".join(f"{number:,} events" for number in NUM_EVENTS)
    yield f"| machine | base model | tokens/s | {events} |"
    yield "|---|---|---|---|---|---|"
    for machine in MACHINES:
        for model in machine.models:
            rate = tokens_per_s(model, machine)
            times = [duration(number * TOKENS_PER_EVENT / rate / 60) for number in NUM_EVENTS]
            yield f"| {machine.name} | {model.name} | {_round(rate):,.0f} | {' | '.join(times)} |"


def duration(minutes: float) -> str:
    """Minutes, or hours and days where there are many."""
    if minutes < 1:
        return "under 1 min"
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 48 * 60 else f"{minutes / 60 / 24:.0f} days"


def _round(rate: float) -> float:
    """Two digits; more would say more than is known."""
    return float(f"{rate:.2g}")
