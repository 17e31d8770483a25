"""How fast is `whereupon finetune` on a GPU, and does its memory plan hold? Models of Qwen2.5's sizes, random weights.

    python bench/gpu.py [--sizes 0.5B 1.5B] [--steps N] [--device cuda]

Needs a GPU and no network: the models are made here, with the tokenizer of SmolLM2-135M-Instruct. Data and prompts are
those of examples/flights-demo.yaml, without rankers. For each size: steps with the weights in bf16, with the weights
in NF4 and paged 8-bit AdamW (QLoRA), and with gradient checkpointing, each followed by a bare pass of the same tokens
as in bench/train.py. The memory of the largest step that PyTorch counted stands beside the plan.

Then what needs CUDA besides: the first ten of a search in float32 on the GPU are those of scoring the whole catalogue
there, and those of the CPU.

Writes bench/results/gpu.json; exits with 1 if a bar is missed. `--device cpu --sizes tiny` tries the script without a
GPU: memory is not counted then, the figures mean nothing, and they are written to runs/gpu.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import torch
from ablation import prepare_copy
from numpy.typing import NDArray
from record import bar, record
from train import TOKENS_BAR, own_steps

from whereupon.config import Config, load_config
from whereupon.decode.base_models import resolve_base_model
from whereupon.decode.models import load_engine, load_tokenizer
from whereupon.decode.search import score_all, search
from whereupon.finetune import memory
from whereupon.histories import read_histories

ROOT: Final = Path(__file__).parents[1]
EXAMPLE: Final = ROOT / "examples" / "flights-demo.yaml"
Found = tuple[list[int], NDArray[np.float32]]
SEED: Final = 7
OFF_PLAN: Final = 0.15
SAME: Final = 1e-3  # nats, float32 on two kinds of processors
SHAPES: Final = {  # hidden size, that of the MLP, layers, heads, heads of keys and values
    "tiny": (32, 64, 2, 4, 2),
    "0.5B": (896, 4864, 24, 14, 2),
    "1.5B": (1536, 8960, 28, 12, 2),
}
WAYS: Final = {
    "bf16": (),
    "nf4": ("model.quantize=nf4", "finetune.optimizer=paged_adamw_8bit"),
    "bf16, checkpointing": ("finetune.gradient_checkpointing=true",),
}


def main() -> int:
    """Make the models, time and weigh the trainings, search; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["0.5B", "1.5B"], choices=list(SHAPES))
    parser.add_argument("--steps", type=int, default=10, help="counted steps of each training")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("this bench needs a GPU, and torch finds none; --device cpu --sizes tiny tries the script")
    rows, bars = [], []
    for size in args.sizes:
        made = model_of(size)
        for way in WAYS:
            rows.append({"size": size, "way": way} | trained(_config(made, args.device, way), args.steps))
            bars += bars_of(rows[-1])
            print(rows[-1], flush=True)
    off = search_apart(_config(model_of(args.sizes[0]), args.device, "bf16"), args.device)
    bars.append(bar("search on the device, largest difference to scoring all and to the CPU, nats", off,
                    f"<= {SAME:g}, the same ten items", off <= SAME))  # fmt: skip
    name = torch.cuda.get_device_name() if args.device == "cuda" else "none"
    tried = None if args.device == "cuda" else ROOT / "runs" / "gpu"  # no result of a trial
    return record("gpu", SEED, bars, folder=tried, gpu=name, rows=rows, steps=args.steps)


def model_of(size: str) -> Path:
    """The folder of a model with random weights, made where it is not there yet."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    folder = ROOT / "runs" / "gpu" / f"model-{size}"
    if (folder / "complete").is_file():
        return folder
    hidden, inner, layers, heads, pairs = SHAPES[size]
    config = Qwen2Config(
        hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=pairs, vocab_size=151_936, tie_word_embeddings=True, max_position_embeddings=32_768,
    )  # fmt: skip
    torch.manual_seed(SEED)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    for file in resolve_base_model("smollm2-135m").iterdir():
        if file.name.startswith(("tokenizer", "special_tokens", "vocab", "merges", "chat_template")):
            shutil.copy(file, folder)
    (folder / "complete").touch()
    return folder


def _config(model: Path, device: str, way: str) -> Config:
    """The example's with a random model, in a run folder of its own for each model and way."""
    slug = "".join(char if char.isalnum() else "-" for char in f"{model.name}-{way}")
    on_gpu = device == "cuda"
    settings = [one for one in WAYS[way] if on_gpu or "paged" not in one]
    first = load_config(EXAMPLE)
    prepared = model.parent / slug
    prepare_copy(EXAMPLE, first, prepared)
    return load_config(EXAMPLE, [
        f"run={prepared}", f"model.base={model}", f"model.device={device}",
        f"model.dtype={'bfloat16' if on_gpu else 'float32'}", "priors=none", "finetune.validation_events=1",
        f"finetune.batch_tokens={16_384 if on_gpu else 512}", "finetune.warmup_fraction=0", *settings,
    ])  # fmt: skip


def trained(config: Config, steps: int) -> dict[str, Any]:
    """Tokens/s of steps and of bare passes; bytes of the largest step, as planned and as counted."""
    plans, original = list[memory.MemoryPlan](), memory.memory_plan

    def planning(*given: Any) -> memory.MemoryPlan:
        plans.append(original(*given))
        return plans[-1]

    shutil.rmtree(config.run / "adapters", ignore_errors=True)
    with patch.object(memory, "memory_plan", planning):
        own, bare = own_steps(config, steps)
    return {
        "tokens_per_s": own.figures()["tokens_per_s"], "bare_tokens_per_s": bare.figures()["tokens_per_s"],
        "planned_bytes": plans[0].total, "counted_bytes": own.peak_bytes,
    }  # fmt: skip


def bars_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Of one size in one way. Without a GPU no memory is counted, and its bar is missed."""
    name = f"{row['size']}, {row['way']}"
    share = row["tokens_per_s"] / row["bare_tokens_per_s"]
    off = abs(row["counted_bytes"] / row["planned_bytes"] - 1) if row["counted_bytes"] else None
    return [
        bar(f"{name}: tokens/s against bare passes", share, f">= {TOKENS_BAR:g}", share >= TOKENS_BAR),
        bar(f"{name}: memory off the plan", off, f"<= {OFF_PLAN:g}", off is not None and off <= OFF_PLAN),
    ]


def search_apart(config: Config, device: str) -> float:
    """How far the log-probabilities of the first ten items are apart, in nats, in float32: found by search on the
    device, by scoring all there, and by search on the CPU. Infinite where the items differ."""
    histories, found = read_histories(config.run), list[Found]()
    for where in dict.fromkeys((device, "cpu")):
        model = config.model.model_copy(update={"device": where, "dtype": "float32", "quantize": "none"})
        engine, encoder, _ = load_engine(
            model, config.prompts, histories.items, histories.events, histories.location, None,
            title_recipe=histories.title_recipe,
        )  # fmt: skip
        tokens_L = np.array([*encoder.prefix, *load_tokenizer(config.model)(["08:00, rain, from"])[0]], np.int32)
        last = np.array([len(tokens_L) - 1])
        reading = engine.read(tokens_L, last)
        (best,) = search(reading, engine.trie, k=10)
        all_I = score_all(reading.ask(last), engine.trie)
        order_K = np.lexsort((engine.trie.row_of_item_I, -all_I))[:10]
        found += [(best.item_idx_K.tolist(), best.log_prob_K), (order_K.tolist(), all_I[order_K])]
    first_items, first_K = found[0]
    if any(items != first_items for items, _ in found):
        return float("inf")
    return max(float(np.abs(log_prob_K - first_K).max()) for _, log_prob_K in found)


if __name__ == "__main__":
    sys.exit(main())
