"""Every setting of a recipe, its default and its meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.data.tokenized import Counted
from infra.plugins import label_of

ArmName = Literal["flip", "same-difficulty-swap", "random-swap", "reverse-flip"]
StrategyName = Literal["select", "prune", "weights", "truncate"]


class Settings(BaseModel):
    """Settings that cannot be changed and refuse unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceSettings(Settings):
    """One file or hub data set of training data."""

    path: str = Field(
        description="a JSONL, JSON, CSV or Parquet file, also gzipped; a folder of these; hf:org/name; or world:default"
    )
    schema_: str = Field(
        "auto", alias="schema", description="an adapter's name, or path/to/file.py:NAME for your own; 'auto' detects it"
    )
    domain: str | None = Field(None, description="math, code, or another name; default: what each row says, or a guess")
    source: str | None = Field(None, description="a name for the origin of these records; default: the file's own")
    limit: int | None = Field(None, ge=1, description="first N records of the file")
    level: int | None = Field(
        None,
        description="difficulty of those of its records that have none, on the scale of the domain's other sources",
    )
    ids: Literal["own", "line"] = Field("own", description="'line': records are named by file and line instead")
    shares: dict[Literal["pretrain", "train", "pool"], float] | Literal["own"] = Field(
        default={"train": 1.0},
        description="shares of the file for each use, split by hash of the problem; 'own': by each record's `split`",
    )

    @model_validator(mode="after")
    def _shares_add_up(self) -> SourceSettings:
        if self.shares == "own":
            return self
        if not self.shares or any(v < 0 for v in self.shares.values()) or sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError("shares must be non-negative and add up to at most 1")
        return self


class JudgeSettings(Settings):
    """A model behind an OpenAI-compatible server that rates problems from 1 to 10 on the AoPS scale."""

    server: str = Field(description="base URL, ending in /v1")
    model: str = Field(description="the model's name at the server")
    votes: int = Field(3, ge=1, description="ratings asked per problem; the median counts")
    temperature: float = Field(0.7, ge=0, description="of sampling; 0 is greedy")
    max_new_tokens: int = Field(1024, ge=8, description="tokens at which a rating's answer is cut")


class StepJudgeSettings(Settings):
    """A model behind an OpenAI-compatible server that labels steps' behaviours beside the rules."""

    server: str = Field(description="base URL, ending in /v1")
    model: str = Field(description="the model's name at the server")
    examples: int = Field(50, ge=1, description="training examples whose steps it labels")
    max_new_tokens: int = Field(4096, ge=8, description="tokens at which the judge's answer is cut")


class DataSettings(Settings):
    """Where examples come from: an embedded world (short for one source of that name), or files."""

    world: Literal["default", "balanced", "opposite"] | None = Field(
        None, description="the embedded world of that name; give this or `sources`"
    )
    sources: tuple[SourceSettings, ...] = Field((), description="files of training, pool and pretraining data")
    queries: tuple[SourceSettings, ...] = Field(
        (), description="files of correct responses that targets are made of, in place of tasks; one target a domain"
    )
    limit: int | None = Field(
        None,
        ge=1,
        description="N training and N pool records of each domain: the first of each source, which keep their shares",
    )
    max_length: int = Field(512, ge=8, description="tokens; a longer example is an error or, when asked, skipped")
    on_error: Literal["raise", "skip"] = Field(
        "raise", description="stop at the first bad row, or pass over bad rows and list them"
    )
    difficulty: dict[str, Literal["native", "text-estimate", "judge"]] = Field(
        default={},
        description="the label a domain's levels come from; 'text-estimate' and 'judge' are cut into five quantiles",
    )
    judge: JudgeSettings | None = Field(None, description="who rates the domains whose difficulty is 'judge'")
    ngram: int = Field(13, ge=3, description="word n-gram whose recurrence in an evaluation problem is a leak")

    @property
    def origins(self) -> tuple[SourceSettings, ...]:
        """Every source that is read."""
        return self.sources if self.world is None else (SourceSettings(path=f"world:{self.world}", shares="own"),)

    @model_validator(mode="after")
    def _one_origin(self) -> DataSettings:
        if (self.world is None) == (not self.sources):
            raise ValueError("give either data.world or data.sources")
        if "judge" in self.difficulty.values() and self.judge is None:
            raise ValueError("difficulty 'judge' needs data.judge with a server and a model")
        return self


class TaskSettings(Settings):
    """One benchmark."""

    name: str = Field(description="a benchmark's name, or path/to/file.py:NAME for one of your own")
    path: str | None = Field(None, description="local file in the public schema; without it the task's own source")
    target: str | None = Field(None, description="the target its verified responses belong to, e.g. math")
    limit: int | None = Field(None, ge=1, description="first N problems of each split")
    split: Literal["hash", "held-out"] = Field(
        "hash", description="a third by hash makes targets; 'held-out' keeps all for accuracy (few problems: AIME)"
    )
    samples: int | None = Field(None, ge=1, description="answers per held-out problem; default: eval.samples")
    options: dict[str, str] = Field(default={}, description="the task's own options, e.g. release: release_v2")
    arms: bool = Field(True, description="also asked of the arms' models, not only of the base and the fine-tuned ones")

    @property
    def label(self) -> str:
        """What files and tables call it: its name, or that of the object in the user's file."""
        return label_of(self.name)

    @model_validator(mode="after")
    def _targets_have_problems(self) -> TaskSettings:
        if self.target is not None and self.split == "held-out":
            raise ValueError(f"all problems of {self.name} are held out, so none can make target '{self.target}'")
        return self


class PretrainSettings(Settings):
    """A small Qwen2 model that the run trains itself, for data no small public model fits."""

    vocab_size: int = Field(2048, ge=300, description="tokens of the byte-level BPE that is trained with it")
    hidden_size: int = Field(128, description="width of the model")
    intermediate_size: int = Field(384, description="width of its MLPs")
    layers: int = Field(4, description="decoder layers")
    heads: int = Field(4, description="attention heads")
    kv_heads: int = Field(2, description="heads of keys and values")
    epochs: float = Field(1.0, description="passes over the pretraining data")
    learning_rate: float = Field(2e-3, description="peak learning rate of AdamW")
    batch_size: int = Field(32, description="examples per optimiser step")


class ModelSettings(Settings):
    """The base model: a name, a folder, a hub id, or one trained here."""

    base: str = Field(
        "world",
        description="a folder, a hub id, a .gguf file, a PEFT adapter, a short name, or world (embedded)",
    )
    dtype: Literal["float32", "bfloat16", "float64"] = Field("float32", description="of weights and arithmetic")
    precision: Literal["auto", "float32", "fast"] = Field(
        "auto",
        description="of float32 matrix products: float32, fast (rounded to bfloat16 on a CPU, TF32 on a GPU), or "
        "auto: fast where the processor gains from it and scores keep their ranks on this model",
    )
    device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    pretrain: PretrainSettings | None = Field(None, description="train a small base model first, in place of `base`")


class TrainSettings(Settings):
    """SFT. The loss is summed over response tokens and divided by a constant, so that subsets are additive."""

    learning_rate: float = Field(1e-5, gt=0, description="peak learning rate of AdamW; cosine decay to 0")
    epochs: float = Field(3.0, gt=0, description="passes over the training data")
    batch_size: int = Field(96, ge=1, description="examples per optimiser step")
    max_tokens_per_microbatch: int = Field(
        8192,
        ge=64,
        description="tokens, padding included, of one forward and backward pass; no result depends on it; where it is "
        "not set, a run takes fewer if memory or a CPU asks for it",
    )
    warmup_ratio: float = Field(0.1, ge=0, le=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients of a larger global norm are scaled down to it")
    dtype: Literal["float32", "bfloat16", "float64"] | None = Field(
        None, description="of the weights while they train; default: model.dtype"
    )
    autocast: Literal["bfloat16"] | None = Field(None, description="compute in bfloat16 over weights kept in dtype")
    packing: bool = Field(False, description="several documents a row; the same loss, less padding")
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory, a third more operations"
    )
    lora_rank: int | None = Field(None, description="train LoRA pairs of this rank; default: all weights")
    save_steps: int = Field(0, ge=0, description="a checkpoint to go on from every so many steps; 0: none")


class WarmupSettings(Settings):
    """A short fine-tuning before `infra score` attributes, for a model that has not seen this kind of data."""

    examples: int = Field(1000, ge=2, description="training examples, drawn at random; at most all")
    epochs: float = Field(2.0, gt=0, description="passes over these examples")
    batch_size: int = Field(8, ge=1, description="examples per optimiser step")
    learning_rate: float | None = Field(None, gt=0, description="default: 5e-5, with LoRA 2e-4")
    lora_rank: int | Literal["auto"] | None = Field(
        "auto", description="rank of LoRA pairs, or null for all weights; 'auto': 64 from 1e9 parameters on"
    )
    autocast: Literal["bfloat16"] | None = Field(None, description="compute in bfloat16 over weights kept in dtype")


class EvalSettings(Settings):
    """How held-out problems are answered."""

    temperature: float = Field(0.0, ge=0, description="of sampling; 0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="sample from the likeliest tokens that hold this share")
    samples: int = Field(1, ge=1, description="answers per held-out problem")
    max_new_tokens: int = Field(160, ge=1, description="tokens at which an answer is cut")
    max_batch_tokens: int = Field(65_536, ge=64, description="tokens of one batch of answers, prompts included")
    system: str | None = Field(
        None, description="system prompt of every problem; 'train' is the training data's most frequent one"
    )
    seed: int = Field(0, description="seed of sampling")
    instruct: bool = Field(True, description="end each question with the task's instruction")
    server: str | None = Field(None, description="base URL of an OpenAI-compatible server; base model only")
    unsafe_execution: bool = Field(False, description="run model-written code without a sandbox if there is none")


class TargetSettings(Settings):
    """f: mean log-likelihood of the fine-tuned model's own verified-correct responses to target problems."""

    samples: int = Field(2, ge=1, description="responses drawn per target problem")
    temperature: float = Field(0.7, ge=0, description="of sampling the responses")
    form: Literal["per_token", "summed"] = Field(
        "per_token", description="log-likelihood of a response divided by its tokens, or summed over them; in nats"
    )
    tokens: Counted = Field(
        "all", description="f over all response tokens, or over content: without what the chat template writes"
    )
    folds: int = Field(5, ge=2, description="query folds per target and difficulty, for intervals")
    minimum: int = Field(20, ge=1, description="fewer responses than this: 'too few'")
    fallback: Literal["reference", "none"] = Field(
        "reference", description="when too few are solved: use reference solutions, and say so, or leave the target out"
    )


class CurvatureSettings(Settings):
    """The curvature of the methods ekfac, kfac and diagonal, and which weights every method looks at."""

    tracked: str = Field("mlp", description="mlp, attention, all, or a regular expression over parameter names")
    fisher: Literal["true", "empirical"] = Field(
        "true", description="labels sampled from the model (true Fisher), or the data's own (empirical)"
    )
    eigenvalues: Literal["auto", "per_sequence", "per_token"] = Field(
        "per_sequence", description="'auto': the cheaper per_token where a check on 64 of this model's sequences allows"
    )
    include_prompt: bool = Field(True, description="count prompt positions through which a response loss flows")
    block_size: int | None = Field(
        None, ge=16, description="sides of weights wider than this have their eigenvectors in diagonal blocks"
    )
    damping: float = Field(0.1, gt=0, description="times the mean corrected eigenvalue")
    damping_scale: Literal["relative", "absolute"] = Field("relative", description="'absolute': damping as it is")
    fraction: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] = Field(
        1.0,
        description="share of the training data the factors see; 'auto': until the scores of split halves agree to "
        "0.999, everything where that would not pay",
    )
    sum_shards: int = Field(8, ge=1, description="shards whose sums are kept apart: most processes of use in a fit")


class ScoreSettings(Settings):
    """Which scores are kept token by token."""

    token_targets: tuple[str, ...] = Field(("math", "code"), description="targets with a score for every token")
    tokens: Counted = Field(
        "all",
        description="an example's score is the sum over all its response tokens, or over content: without what the "
        "chat template writes, whose part is the column `format` either way",
    )
    cosine: bool = Field(
        False, description="also keep each score over the norms of gradient and direction; one more visit to the data"
    )
    position: bool = Field(False, description="also keep `position` scores")
    span_examples: int = Field(600, ge=1, description="training examples whose steps and token classes get intervals")
    judge: StepJudgeSettings | None = Field(None, description="who labels steps beside the rules, for agreement")
    delete_examples: int = Field(
        60,
        ge=0,
        description="examples whose steps are also scored by deletion; fewer where their steps outnumber the data",
    )
    query_top: int = Field(100, ge=0, description="examples kept per query and side with token scores; 0: no queries")
    query_links: int = Field(
        3, ge=0, description="examples per query and side whose steps are linked to the tokens of its answer; 0: none"
    )
    queries: int | None = Field(None, ge=1, description="queries followed one by one, drawn at random; default: all")
    max_tokens: int = Field(
        8192, ge=64, description="tokens per batch; not set, a run takes fewer where memory or a CPU asks for it"
    )
    shard_tokens: int = Field(65_536, ge=64, description="tokens of a shard, the unit of work and of resume")


class ScaleSettings(Settings):
    """Who does the work of fitting and scoring, and who is told. No result depends on it beyond rounding."""

    launcher: Literal["processes", "slurm", "submitit-local", "ray"] = Field(
        "processes", description="this command's processes (torchrun's, or one), Slurm jobs by submitit, or Ray"
    )
    workers: int = Field(1, ge=1, description="Slurm jobs, or Ray's CPUs")
    options: dict[str, Any] = Field(default={}, description="for submitit's update_parameters or ray.remote")
    report_to: tuple[Literal["tensorboard", "wandb"], ...] = Field((), description="where SFT's metrics go as well")
    fsdp: bool = Field(False, description="under torchrun: layers sharded over the processes (a model too large)")
    recompute: bool = Field(
        False, description="activations made again in backward passes: less memory, half as many operations again"
    )


class EffectSettings(Settings):
    """Which groups of training examples are compared."""

    attributes: tuple[str, ...] = Field(("difficulty",), description="attributes of records to compare examples by")
    bootstrap: int = Field(1000, ge=20, description="resamples behind each interval")


class ArmSettings(Settings):
    """Reweighting experiments, as the protocol fixes them."""

    names: tuple[ArmName, ...] = Field(
        ("flip", "same-difficulty-swap", "random-swap", "reverse-flip"), description="the training sets that are made"
    )
    fraction: float = Field(0.3, gt=0, lt=1, description="share of each domain's records that is swapped")
    token_matched: bool = Field(True, description="keep each domain's response tokens within 1% of the original")
    length_matched: bool = Field(False, description="swap only records whose lengths differ by at most 10%")
    easy: tuple[int, ...] = Field((1, 2), description="levels of difficulty that count as easy")
    hard: tuple[int, ...] = Field((4, 5), description="levels of difficulty that count as hard")


class StrategySettings(Settings):
    """Data made better by influence, each way against its matched random control."""

    names: tuple[StrategyName, ...] = Field((), description="select takes out what the arm 'flip' takes out")
    group: str | None = Field(None, description="attribute whose values share out what `select` takes (diversity)")
    max_share: float = Field(1.0, gt=0, le=1, description="largest share of one group in a domain's selection")
    prune_fraction: float = Field(0.2, gt=0, lt=1, description="largest share of the training set to drop")
    strength: float = Field(1.0, ge=0, description="loss weights grow as exp(strength * robust z of the influence)")
    lowest: float = Field(0.5, ge=0, le=1, description="smallest loss weight")
    highest: float = Field(2.0, ge=1, description="largest loss weight")
    behaviours: tuple[str, ...] = Field((), description="steps to cut; by default those of lowest influence per token")


class ReportSettings(Settings):
    """What the page shows."""

    examples: int = Field(24, ge=0, description="examples shown with coloured tokens")


class ValidationSettings(Settings):
    """Retraining on random subsets, to see how well the run's scores predict it."""

    minutes: float = Field(30.0, gt=0, description="minutes for the retrains; what does not fit is left out or refused")
    subsets: int = Field(100, ge=2, description="random subsets; fewer than 100 validate nothing")
    seeds: int = Field(3, ge=1, description="fresh orders and seeds a subset; fewer than 3 validate nothing")
    kinds: tuple[Literal["half", "drop1", "token", "step_mask", "step_delete"], ...] | None = Field(
        None, description="kinds of removal, all of which must fit in the time; by default as many as fit"
    )
    protocols: tuple[Literal["same_seed", "seed_mean"], ...] = Field(
        ("same_seed", "seed_mean"), description="repeat the recorded order, or average over fresh orders"
    )
    methods: tuple[str, ...] = Field(
        ("random", "length", "loss", "gradient"), description="compared with the run's own, through the same retrains"
    )
    accuracy_problems: int = Field(0, ge=0, description="held-out problems a task after each half-subset retrain")
    compile: bool = Field(False, description="fuse the retrains' training passes by torch.compile (needs g++)")
    required: bool = Field(False, description="a plan that does not fit ends the command, not the validation alone")
