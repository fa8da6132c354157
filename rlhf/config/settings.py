"""Models, optimizers, sampling, and how models answer: the sections that several stages share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from rlhf.config.parts import Part, PartConfig
from rlhf.config.rewards import RewardPart
from rlhf.types import Sampling

Kind = Literal["decoder", "encoder", "encoder_decoder"]
"""What a network reads: what stands before a token, all around it, or a text from which it writes another."""


class NewTokenizerConfig(PartConfig):
    """A tokenizer trained on the stage's own texts, or another model's."""

    path: str | None = None
    """Take the tokenizer of this model (a folder, a hub name, or `stage:NAME`) instead of training one."""
    type: Literal["words", "bpe", "bytes"] = "bpe"
    """`words`: one token a word, for small closed vocabularies; `bpe`: byte-level BPE; `bytes`: no merges."""
    vocab_size: int = Field(default=1024, ge=16)
    """Upper bound; a small corpus may need fewer."""


class NewModelConfig(PartConfig):
    """A fresh model with random weights."""

    kind: Kind = "decoder"
    """`decoder` (Llama), what every method but two trains; `encoder` (BERT) for masked_lm; `encoder_decoder` (T5) for
    span_corruption, with `num_layers` on each side.
    """

    hidden_size: int = Field(default=128, ge=8)
    num_layers: int = Field(default=4, ge=1)
    num_heads: int = Field(default=4, ge=1)
    num_kv_heads: int | None = Field(default=None, ge=1)
    mlp_size: int | None = Field(default=None, ge=8)
    """Width of the MLP; 8/3 of `hidden_size`, rounded up to a multiple of 32, where absent."""
    context: int = Field(default=256, ge=8)
    """Longest sequence in tokens."""
    tie_embeddings: bool = True
    tokenizer: NewTokenizerConfig = NewTokenizerConfig()

    @model_validator(mode="after")
    def _heads_divide(self) -> NewModelConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        if self.num_kv_heads and self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")
        return self


class LoraConfig(PartConfig):
    """Low-rank adapters (peft) instead of full fine-tuning; the reference is then the policy with its adapter off."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    quantize: Literal["nf4"] | None = None
    """`nf4`: the frozen linear layers are held in four bits (QLoRA; needs `rlhf[qlora]`). An eighth of the memory of
    float32; each product costs more, and the model is a little worse before it has learned anything.
    """
    hand_over: Literal["merged", "adapter"] = "merged"
    """What the rollout engine is sent after each update: all weights with the adapters added to them, or the adapters
    alone, which it applies itself, and the weights beneath them only once. Less travels, and each token costs more.
    """


class ModelConfig(PartConfig):
    """Which weights a role starts from."""

    path: str | None = None
    """A folder, a hub name, or `stage:NAME` for what an earlier stage made."""
    revision: str | None = None
    """Hub revision; only a commit hash makes sure that the same files are loaded again. Python code beside the weights
    is never run (SECURITY.md).
    """
    eos_token: str | None = None
    """Ends an answer, where the tokenizer itself names no such token or the wrong one."""
    new: NewModelConfig | None = None
    """A fresh model instead of `path`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward pass: `auto` is float32 on CPU and bfloat16 on GPU. Trained weights stay float32."""
    max_length: int | None = Field(default=None, ge=8)
    """Longest sequence used, in tokens; the model's own context where absent."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    gradient_checkpointing: bool = False
    lora: LoraConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """`model: PATH` and `model: new`."""
        if value == "new":
            return {"new": {}}
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> ModelConfig:
        if (self.path is None) == (self.new is None):
            raise ValueError("give either `path` (a folder, a hub name or stage:NAME) or `new` (a fresh model)")
        if not (self.path or "").isprintable():
            raise ValueError(f"path: {self.path!r} holds a line end or another control character")
        return self

    @property
    def is_quantized(self) -> bool:
        """Whether the frozen layers beneath adapters are held in four bits."""
        return self.lora is not None and self.lora.quantize is not None

    @property
    def adapters_apart(self) -> bool:
        """Whether the rollout engine is sent adapters as they are, and not added to the weights."""
        return self.lora is not None and self.lora.hand_over == "adapter"


class OptimizerConfig(PartConfig):
    """AdamW with a warm-up and a schedule over the run's optimizer steps."""

    lr: float = Field(default=1e-5, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this global norm."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps over which the rate rises from zero."""
    min_lr_ratio: float = Field(default=0.0, ge=0, le=1)
    """Where `linear` and `cosine` end, as a share of `lr`."""
    max_skipped: int = Field(default=3, ge=0)
    """Steps in a row that may be skipped because loss or gradient was not finite; one more ends the run."""


class RoleConfig(PartConfig):
    """A role other than the policy: which weights, where it differs from the stage's own settings."""

    model: ModelConfig
    optimizer: OptimizerConfig | None = None


class RolloutConfig(PartConfig):
    """How completions are sampled.

    What narrows or bends the distribution (`top_p`, `top_k`, `min_p`, `logit_bias`) decides which tokens are drawn and
    nothing else: log-probs, ratios and KL are those of the policy itself, which is trained without any of it.
    """

    engine: Part = Part(type="transformers")
    """`auto` is `vllm` where that is installed and runs the model, else `transformers`; which one, the run says."""
    max_tokens: int = Field(default=64, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    """Training divides logits by it too. 0 is greedy, for evaluation only."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Leaves out tokens less likely than this share of the likeliest one (arXiv:2407.01082)."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end a completion. The tokens of one that ended it are trained on; its text is not shown to rewards."""
    logit_bias: dict[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=-100, le=100)]] = Field(
        default_factory=dict
    )
    """Added to the logits of tokens, by token id, before the temperature; -100 bans one, in effect."""

    timeout: float = Field(default=1800.0, gt=0)
    """Seconds a rollout worker on Ray may take over one call. One that takes longer, or dies, is given up: its prompts
    go to the others, the run goes on with those.
    """

    max_staleness: int = Field(default=0, ge=0)
    """By how many updates the policy may be ahead of the one that wrote a sample. 0: sampling and learning take turns.
    With k, samples of the next k steps are written while the policy learns (on Ray, where they are apart); see
    `algorithm.correction`.
    """
    in_flight_updates: bool = False
    """New weights reach what is being written between two tokens, so that samples are less stale than `max_staleness`
    allows, and depend on timing. On Ray only.
    """
    stream: bool = False
    """Rewards, and on Ray the reference, reward and value models, read the answers to one prompt while others are still
    being written: for rewards and models that take long. A reward then sees whatever has ended since it was last asked.
    """

    @model_validator(mode="after")
    def _updates_are_overtaken(self) -> RolloutConfig:
        if self.in_flight_updates and not self.max_staleness:
            raise ValueError("in_flight_updates: nothing is in flight where sampling waits; set max_staleness, as to 1")
        return self

    @field_validator("engine", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """`engine: NAME`."""
        return {"type": value} if isinstance(value, str) else value

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """`stop: TEXT`."""
        return (value,) if isinstance(value, str) else value

    def sampling(self, num_samples: int, seed: int, stop_token_ids: tuple[int, ...]) -> Sampling:
        """What the rollout engine is told."""
        return Sampling(
            stop_token_ids=stop_token_ids,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            stop=self.stop,
            logit_bias=self.logit_bias,
            num_samples=num_samples,
            seed=seed,
        )


class AnswersConfig(PartConfig):
    """A model and how it answers in an evaluation: as it is, by choice among samples, or after examples."""

    model: str
    """`stage:NAME`, a folder or a hub name; all there is to say where it answers as it is."""
    best_of: int = Field(default=1, ge=1)
    """Samples drawn for one answer, of which the reward picks one."""
    rejection_beta: float | None = Field(default=None, gt=0)
    """Take samples in order with probability exp((reward - best reward) / beta) instead of always the best one (RSO,
    arXiv:2309.06657).
    """
    reward: tuple[RewardPart, ...] = ()
    """What picks, summed by weight: `reward: NAME`, or a list of tables with `type` and `weight`."""
    reward_model: tuple[str, ...] = ()
    """A trained reward model that picks, or several of them: `stage:NAME` or a folder."""
    in_context: str | tuple[dict[str, Any], ...] = ()
    """Examples shown before every prompt, in any format with an answer: a file, or rows written here. What a model
    makes of them without training is the baseline of URIAL (arXiv:2312.01552).
    """

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """`before: stage:NAME`, `reward: NAME`, `reward_model: PATH`."""
        if isinstance(value, str):
            return {"model": value}
        if not isinstance(value, dict):
            return value
        lists = {
            key: value[key] if isinstance(value[key], list | tuple) else [value[key]]
            for key in ("reward", "reward_model")
            if value.get(key)
        }
        if "reward_model" in lists:
            lists.setdefault("reward", ["reward_model"])
        if "reward" in lists:
            lists["reward"] = [{"type": item} if isinstance(item, str) else item for item in lists["reward"]]
        return value | lists

    @model_validator(mode="after")
    def _picks_by_something(self) -> AnswersConfig:
        if self.best_of > 1 and not self.reward:
            raise ValueError(
                f"best_of {self.best_of} needs something to pick by: give reward_model: PATH, or reward: NAME"
            )
        if self.best_of == 1 and (self.reward or self.rejection_beta):
            raise ValueError("there is nothing to pick from: give best_of: N, or leave reward and rejection_beta out")
        if any(part.type == "reward_model" for part in self.reward) and not self.reward_model:
            raise ValueError("reward `reward_model` needs `reward_model: PATH` beside it")
        return self


class RoleSpec(PartConfig):
    """All a worker needs to build one role, as plain data; what crosses to it before any model exists."""

    role: Literal["policy", "reference", "value", "reward", "cost", "cost_value"]
    model: ModelConfig
    """`path` is a folder or hub name by now; fresh models have been written to a folder first."""
    kind: Kind = "decoder"
    """Policy: which kind of network its method trains."""
    optimizer: OptimizerConfig | None = None
    """None: the role only runs forward."""
    num_steps: int = 1
    """Optimizer steps of the whole run, which the schedule spans."""
    temperature: float = 1.0
    """Policy and reference: logits are divided by it, as in sampling."""
    teacher: ModelConfig | None = None
    """Policy: a frozen model that reads the same tokens in the same processes, which the policy learns from."""
    heads: tuple[str, ...] = ()
    """Reward model in training: names of its heads; one without a name where empty."""
    seed: int = 0
    """Of a fresh head and of adapter weights."""
    folder: str | None = None
    """The stage's own: batches of skipped steps go into its `not_finite/`."""
