"""Settings of the fine-tuning."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Tracker = Literal["tensorboard", "mlflow", "wandb", "trackio"]


AFTERWARDS: Final = frozenset({"softmax_dpo", "policy_gradient"})
"""Objectives that go on from a trained adapter, and from what it ranks highest."""


class WeightSettings(BaseModel):
    """How much each training event counts in the loss; the mean is 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_days: float | None = Field(
        None,
        gt=0,
        description="An event this many days before the last training event counts half. By default all count "
        "the same.",
    )
    popularity_power: float = Field(
        0.0,
        ge=0,
        le=1,
        description="The weight of an event is divided by a power of the number of events of its item; this is the "
        "exponent. With 1 all items count the same, with 0 all events.",
    )


class PreferenceSettings(BaseModel):
    """The stage after a training: the objectives softmax_dpo and policy_gradient."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    events: int = Field(
        1000, gt=0, description="About how many training events it learns from (whole windows, chosen at random)."
    )
    negatives: int = Field(
        8,
        gt=0,
        description="Items that each true item is compared with: the best of the starting adapter's ranking.",
    )
    orders: int = Field(
        8, ge=2, description="With policy_gradient: how many orders of these items are drawn for an event in a step."
    )
    beta: float = Field(
        1.0, gt=0, description="How much a change of a log-probability counts; the higher, the closer to the start."
    )


class FinetuneSettings(BaseModel):
    """LoRA training of every title in every window."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: float = Field(3.0, gt=0, description="Passes over all training windows.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak of the schedule.")
    schedule: Literal["cosine", "linear", "constant", "wsd"] = Field(
        "cosine",
        description="How the learning rate goes down after the warm-up: by half a cosine, in a line, or not at all. "
        "wsd (warm-up, stable, decay): in a line over the last `decay_fraction` of the steps.",
    )
    warmup_fraction: float = Field(0.05, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    floor: float = Field(0.0, ge=0, lt=1, description="What the schedule ends at, as a share of the peak.")
    decay_fraction: float = Field(
        0.2, gt=0, le=1, description="Share of the steps after warm-up that wsd goes down in."
    )
    teach: Literal["once", "every_window"] = Field(
        "every_window",
        description="Windows repeat `prompts.keep_fraction` of the window before. once: the repeated events are "
        "context; every_window: they are targets again, with less context before them.",
    )
    replay_share: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="With `finetune --from`: share of the windows of an epoch that hold older events only, chosen at "
        "random.",
    )
    teacher_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="With `student`: share of the loss that is the divergence from the teacher's distribution over the "
        "branches of the trie; the rest is the loss of the true items.",
    )
    objective: Literal["catalogue", "plain", "softmax_dpo", "policy_gradient"] = Field(
        "catalogue",
        description="catalogue: the log-probability of a title among all titles of the catalogue. Answers are ranked "
        "by it. plain: the log-probability of its tokens among the whole vocabulary, for comparison. softmax_dpo: the "
        "true item is preferred to what the adapter of `finetune --from` ranks highest. policy_gradient: orders of "
        "these items are drawn and rewarded by the nDCG of the true item.",
    )
    preference: PreferenceSettings = Field(default_factory=PreferenceSettings)
    weights: WeightSettings = Field(default_factory=WeightSettings)
    batch_tokens: int = Field(2048, gt=0, description="Tokens of a batch, padding included: what is in memory at once.")
    accumulate: int = Field(
        1,
        gt=0,
        description="Batches that a process adds up for one step of the optimizer; `accelerate launch "
        "--gradient_accumulation_steps` says it too.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations again in the backward pass: less memory, about a third slower."
    )
    attn_implementation: Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3"] = Field(
        "auto", description="Attention of the training steps, as in transformers; validation keeps the model's own."
    )
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of AdamW.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
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
        description="AdamW; the same with 8-bit states (bitsandbytes); or 8-bit and paged, which moves states to main "
        "memory while the GPU's memory is full.",
    )
    on_top: bool | None = Field(
        None,
        description="Whether the model is trained on top of the rankers of `priors`: its loss is that of the blend "
        "with them. By default yes if there are `priors`.",
    )
    temperature: Annotated[float, Field(gt=0)] | Literal["learnt"] | None = Field(
        None,
        description="Divides the logits before the softmax over a node's edges, in training and in serving. The "
        "default is 1, and 2.5 on top of rankers, so that an untrained model does not outweigh them. learnt: begins "
        "there and is trained with the weights.",
    )
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        "auto",
        description="auto: bf16 where the hardware multiplies it natively, fp16 on GPUs that are fast only with fp16 "
        "(V100, T4), else no: float32.",
    )
    validations_per_epoch: int = Field(2, ge=0, description="How often to validate; always once at the end.")
    validation_events: int = Field(300, gt=0, description="About how many events to validate on (whole windows).")
    patience: int = Field(4, gt=0, description="Stop after so many validations without a better nDCG@10.")
    loader_workers: int | None = Field(
        None,
        ge=0,
        description="Processes that read and pad batches ahead of each training process; by default 2 beside a GPU, "
        "else 0.",
    )
    log_every: int = Field(
        10, gt=0, description="Steps between two lines of steps.jsonl; the GPU is synchronised only then."
    )
    track: tuple[Tracker, ...] = Field(
        (), description="Where figures go beside the adapter's own files: tensorboard, mlflow, wandb, trackio."
    )

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _no_is_a_word(cls, value: object) -> object:
        """YAML reads `no` as false."""
        return "no" if value is False else value

    @model_validator(mode="after")
    def _temperature_can_be_learnt(self) -> Self:
        if self.temperature == "learnt" and self.objective != "catalogue":
            why = "does not count" if self.objective == "plain" else "is that of the adapter it starts from"
            raise ValueError(
                f"temperature learnt is for the objective catalogue; with {self.objective} it {why}: set a number, or "
                "leave it out"
            )
        return self

    @model_validator(mode="after")
    def _preferences_can_be_learnt(self) -> Self:
        if self.objective in AFTERWARDS and self.attn_implementation.startswith("flash"):
            raise ValueError(
                f"the branches of {self.objective} need a mask, which flash attention has not; set "
                "attn_implementation: auto"
            )
        if self.objective in AFTERWARDS and self.weights != WeightSettings():
            raise ValueError(
                f"weights are for the objectives catalogue and plain; {self.objective} counts all events the same"
            )
        return self


# What may change while an interrupted training goes on: it changes no weight.
AROUND_TRAINING: Final = frozenset({"loader_workers", "log_every", "track"})


class Range(BaseModel):
    """Numbers from `low` to `high`; with `log`, by their logarithm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("should have low below high, and with log both above 0")
        return self


_SPACE: Final[dict[str, Range | list[float | int | str | bool]]] = {
    "finetune.learning_rate": Range(low=2e-4, high=5e-3, log=True),
    "finetune.rank": [8, 16, 32, 64],
    "finetune.dropout": [0.0, 0.05, 0.1],
    "finetune.temperature": Range(low=1.0, high=4.0),
}


class TuneSettings(BaseModel):
    """Which settings `whereupon tune` tries, and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int = Field(20, gt=0, description="Trainings in all, those of earlier calls included.")
    startup_trials: int = Field(
        5, ge=1, description="Trials with random settings, none of which is stopped early, before the search begins."
    )
    space: dict[str, Range | list[float | int | str | bool]] = Field(
        _SPACE,
        description="What is tried: settings of finetune or prompts, each with a list of values or with low, high and "
        "log. By default learning rate, rank, dropout and temperature, which on top of rankers is the model's share.",
    )

    @field_validator("space")
    @classmethod
    def _of_training(cls, space: dict[str, object]) -> dict[str, object]:
        for key in space:
            section, _, name = key.partition(".")
            if section not in ("finetune", "prompts") or not name or "." in name:
                raise ValueError(
                    f"should name settings such as finetune.learning_rate or prompts.budget_tokens, not {key}"
                )
        if not space or any(isinstance(choice, list) and not choice for choice in space.values()):
            raise ValueError("should name a setting at least, and a value for each")
        return space
