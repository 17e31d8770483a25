"""Settings of the fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FinetuneSettings(BaseModel):
    """LoRA training of every title in every window."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: float = Field(3.0, gt=0, description="Passes over all training windows.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak of a cosine schedule.")
    warmup_fraction: float = Field(0.05, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    batch_tokens: int = Field(2048, gt=0, description="Tokens per step and process, padding included.")
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    rank: int = Field(32, gt=0, description="LoRA rank.")
    alpha: float = Field(32.0, gt=0, description="LoRA scale; the update is multiplied by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the input of the LoRA branch.")
    adapter: Literal["lora", "dora", "rslora"] = Field(
        "lora",
        description="Kind of adapter: LoRA; DoRA, which learns the length of each weight row apart from its direction; "
        "or rsLoRA, which scales by alpha / sqrt(rank), for high ranks.",
    )
    target_modules: str | list[str] = Field("all-linear", description="Modules that get an adapter, as in peft.")
    modules_to_save: list[str] = Field(
        [], description="Modules that are trained whole and kept in the adapter, such as norm; not the output layer."
    )
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw",
        description="AdamW; with states of eight bits, by bitsandbytes; or paged besides: kept in main memory while "
        "a GPU's is full.",
    )
    on_top: bool | None = Field(
        None,
        description="Whether the model trains inside the blend with the rankers of `priors`, such that its loss is "
        "about what these do not know; by default where there are any.",
    )
    temperature: float | None = Field(
        None,
        gt=0,
        description="Divides the logits before the softmax over a node's edges, in training and serving alike; by "
        "default 1, and 2.5 on top of rankers, so that an untrained model does not outweigh them.",
    )
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        "auto",
        description="auto: bf16 where the hardware multiplies it natively, fp16 on GPUs that multiply only that fast "
        "(V100, T4), else no: float32.",
    )
    validations_per_epoch: int = Field(2, ge=0, description="How often to validate; always once at the end.")
    validation_events: int = Field(300, gt=0, description="About how many events to validate on (whole windows).")
    patience: int = Field(4, gt=0, description="Stop after so many validations without a better nDCG@10.")
