"""What each stage of a recipe costs: operations, decoding steps, memory, disk.

The costs of a token are stated where the code is that has them: :mod:`infra.influence.estimate`,
:mod:`infra.train.estimate`, :mod:`infra.models.generation.estimate`. Here they are multiplied by a recipe's amounts.
All figures are of one process holding the whole model; :mod:`.duration` spreads them over devices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from infra.influence.convergence import BATCH_TOKENS
from infra.influence.engine.functional import HEAD_ELEMENTS
from infra.influence.estimate import Passes
from infra.layout import BASE, EXPLAINED
from infra.models.generation.estimate import decoding
from infra.models.shape import Shape
from infra.pipeline.convergence import SAMPLE
from infra.pipeline.graph import job_of_run, models_of_score, names_for
from infra.pipeline.links import DIRECTION_BYTES as LINK_BYTES
from infra.pipeline.links import LOW_RANK
from infra.pipeline.plan.amounts import Amounts, Task
from infra.pipeline.plan.devices import BYTES
from infra.pipeline.queries import DIRECTION_BYTES, RANK
from infra.pipeline.recipe import Recipe
from infra.pipeline.span_sample import LEAST_DELETIONS
from infra.pipeline.step import Job
from infra.train.estimate import training_bytes, training_flops

SUM_BYTES = 4
"""Of a number in sums, bases and directions."""
STEPS_PER_EXAMPLE = 6.0
"""Steps of a response that are cut out and scored again, on average."""
RESPONSE = 0.8
"""Share of a query's tokens that are its answer."""

PER_RECORD = {
    "records": 1.36e-3,
    "read": 0.07e-3,
    "grade": 6e-3,
    "spans": 6e-3,
    "report": 0.2e-3,
    "effects": 0.6e-3,
}
"""Seconds of interpreted code a record (``grade``: an answer), on the reference machine of docs/results/scale.md."""
PER_TOKEN = 9e-6
"""Seconds of one core to template, tokenise and store a token, on the same machine."""
FIXED = {"stage": 0.4, "sft": 1.5, "evals": 1.0, "effects": 2.0, "results": 2.0, "report": 1.0}
"""Seconds that do not grow with the data (imports, the sandbox, tables and figures), on the same machine."""


@dataclass(frozen=True, slots=True)
class StageCost:
    """One stage. ``flops`` by kind: ``train``, ``visit`` (forward and backward to the inputs), ``forward`` (with
    tangents), ``product`` (large matrix products beside them), ``eigh`` (float64). ``steps``: decoding steps, each of
    ``step_rows`` answers of ``step_context`` tokens. ``python``: seconds of interpreted code. ``memory``: bytes of
    weights, state and activations; ``disk``: bytes left behind. ``at_most``: devices beyond these make it no faster.
    ``sharded``: under FSDP the model is shared out; other stages load it whole."""

    stage: str
    flops: dict[str, float]
    memory: dict[str, float]
    disk: float = 0.0
    steps: float = 0.0
    step_rows: float = 0.0
    step_context: float = 0.0
    python: float = 0.0
    at_most: float = float("inf")
    sharded: bool = False

    @property
    def total_flops(self) -> float:
        return sum(self.flops.values())


@dataclass(frozen=True)
class Costs:
    """The costs of a recipe's stages on one model shape. ``trains``: `infra run`; else `infra score`."""

    recipe: Recipe
    shape: Shape
    amounts: Amounts
    trains: bool = True

    @cached_property
    def passes(self) -> Passes:
        """The engine's passes under the recipe's settings."""
        curvature = self.recipe.curvature
        matrices = self.shape.tracked(curvature.tracked) * self.shape.layers
        return Passes(self.shape, matrices, curvature.block_size, self.recipe.scale.recompute)

    @property
    def item(self) -> int:
        """Bytes of a number of the model."""
        return BYTES[self.recipe.model.dtype]

    @property
    def weights(self) -> float:
        """Bytes of the model."""
        return float(self.shape.parameters * self.item)

    # counts

    def folds(self) -> int:
        """Directions: (target, level, part)."""
        a, parts = self.amounts, self.recipe.targets.folds
        if a.folds is not None:
            return a.folds
        return max(1, min(a.n_targets * a.levels * parts, max(1, a.queries)))

    def token_targets(self) -> int:
        """Targets whose scores are kept token by token."""
        return max(1, min(len(self.recipe.scores.token_targets), self.amounts.n_targets))

    @cached_property
    def names(self) -> list[str]:
        """The job's stages, as the steps declare them."""
        model = self.recipe.model.base
        scored = Job(self.recipe, models_of_score(self.recipe, model))
        return names_for(job_of_run(self.recipe) if self.trains else scored)

    @cached_property
    def models(self) -> int:
        """Fine-tuned models of the run."""
        return sum(name.startswith("sft/") for name in self.names)

    def in_a_batch(self, length: float) -> float:
        """Examples of ``length`` tokens in a batch."""
        return max(1.0, self.recipe.scores.max_tokens // max(1.0, length))

    @property
    def copies(self) -> float:
        """Of sums (the sum and a shard's part) and of directions while scoring (as they were read, and as matrices).
        Under FSDP a shard's part is the sum, and matrices are made block by block."""
        return 1.0 if self.recipe.scale.fsdp else 2.0

    @property
    def sum_processes(self) -> float:
        """Processes that can work on a sum: one a shard, or, under FSDP, all on the same."""
        return float("inf") if self.recipe.scale.fsdp else float(self.recipe.curvature.sum_shards)

    # memory of a pass

    def _activations(self, backward: bool) -> float:
        tokens = max(float(self.recipe.scores.max_tokens), self.amounts.length)
        return self.passes.activations(tokens, backward) * self.item + 2 * HEAD_ELEMENTS * SUM_BYTES

    def visit_memory(self, rows: float = 0.0, block: float = 0.0) -> dict[str, float]:
        """Bytes of a pass with a backward: numbers in ``rows`` of sums, bases and directions, which lie as the weights
        do, and in what there is of one ``block`` while the pass hands it over."""
        return {
            "weights": self.weights,
            "activations": self._activations(backward=True),
            "rows": rows * SUM_BYTES,
            "block": block * SUM_BYTES,
        }

    def forward_memory(self) -> dict[str, float]:
        """Bytes of a pass without a backward: one layer's activations at a time."""
        return {"weights": self.weights, "activations": self._activations(backward=False)}

    # stages

    def sft(self, stage: str, examples: int, epochs: float) -> StageCost:
        """Fine-tuning; a microbatch holds at least one example."""
        s, again = self.amounts.length, self.recipe.sft.gradient_checkpointing
        batch = max(s, min(float(self.recipe.sft.max_tokens_per_microbatch), examples * s))
        return StageCost(
            stage,
            {"train": epochs * examples * s * training_flops(self.shape, s, again)},
            training_bytes(self.shape, batch, self.item, again),
            self.weights,
            python=FIXED["sft"] + examples * (PER_RECORD["read"] + PER_RECORD["read"] * epochs),
            sharded=True,
        )

    def answers(self, stage: str, tasks: Sequence[tuple[Task, int]]) -> StageCost:
        """Answers to so many prompts of each task, and their grading."""
        a, most = self.amounts, float(self.recipe.eval.max_new_tokens)
        counts = [count for _, count in tasks]
        cost = decoding(self.shape, counts, a.prompt, a.answer, most, float(self.recipe.eval.max_batch_tokens))
        n = float(sum(counts))
        return StageCost(
            stage,
            {"forward": cost.flops},
            {"weights": self.weights, "cache": cost.cache * self.item},
            n * a.answer * 5.0 + n * 100.0,
            steps=cost.steps,
            step_rows=cost.rows,
            step_context=a.prompt + most,
            python=FIXED["evals"] + n * PER_RECORD["grade"],
        )

    def curvature(self) -> StageCost:
        """Covariances, eigenbases, corrected eigenvalues, as far as the method has them."""
        a, c, passes = self.amounts, self.recipe.curvature, self.passes
        s, fraction = a.length, c.fraction if isinstance(c.fraction, float) else 0.25
        tokens = fraction * a.train * s
        factored, corrected = self.recipe.method in ("ekfac", "kfac"), self.recipe.method == "ekfac"
        products = (passes.covariances if factored else 0.0) + (passes.corrected(s) if corrected else 0.0)
        # sums so far and those of the shard under way, which are one under FSDP; later the bases, and eigenvalues so
        first = self.copies * passes.factors if factored else 0.0
        second = (passes.factors if corrected else 0.0) + (
            0.0 if self.recipe.method == "kfac" else self.copies * passes.tracked
        )
        # its bases; a gradient formed, rotated, squared, added up, and that as it is sent
        block = 2.0 * passes.largest_factor + 5.0 * passes.largest
        return StageCost(
            "curvature",
            {
                "visit": (2.0 if corrected else 1.0) * tokens * passes.visit(s, a.response),
                "product": tokens * products,
                "eigh": passes.eigendecompositions if factored else 0.0,
            },
            self.visit_memory(max(first, second), block),
            (passes.factors + passes.tracked) * SUM_BYTES,
            at_most=self.sum_processes,
            python=FIXED["stage"] + a.train * PER_RECORD["read"],
            sharded=True,
        )

    def convergence(self) -> StageCost:
        """A visit to a sample of the training data, each example's gradient formed."""
        a, s, passes = self.amounts, self.amounts.length, self.passes
        n = min(SAMPLE, a.train)
        return StageCost(
            "convergence",
            {"visit": n * s * passes.visit(s, a.response), "product": n * s * passes.formed},
            self.visit_memory(passes.tracked, 2.0 * min(n, max(1.0, BATCH_TOKENS / s)) * passes.largest),
            python=FIXED["stage"] + a.train * PER_RECORD["read"],
            at_most=1,
        )

    def directions(self) -> StageCost:
        """Every fold's gradient, through the inverse curvature."""
        a, k, passes = self.amounts, self.folds(), self.passes
        s = a.prompt + a.answer
        tokens = a.queries * s
        # each example's gradient, the sums over groups, and those as they are sent
        block = (self.in_a_batch(s) + 2.0 * k) * passes.largest
        return StageCost(
            "directions",
            {
                "visit": tokens * passes.visit(s, RESPONSE),
                "product": tokens * passes.formed + a.queries * passes.contraction(k) + k * passes.preconditioning,
            },
            self.visit_memory(k * passes.tracked, block),
            k * passes.tracked * SUM_BYTES,
            at_most=self.sum_processes,
            python=FIXED["stage"] + a.queries * PER_RECORD["read"],
            sharded=True,
        )

    def scores(self) -> StageCost:
        """Every example on every fold by formed gradients, every token on the token targets in forward mode."""
        a, k, kt, passes = self.amounts, self.folds(), self.token_targets(), self.passes
        s, n = a.length, a.train + a.pool
        tokens = n * s
        carried = kt * passes.tracked * self.item / SUM_BYTES
        # each example's gradient, and the directions as rows, whole and as matrices
        block = (self.in_a_batch(s) + 3.0 * k) * passes.largest
        return StageCost(
            "scores",
            {
                "visit": tokens * passes.visit(s, a.response),
                "product": tokens * passes.formed + n * passes.contraction(k),
                "forward": tokens * passes.forward_mode(s, a.response, kt),
            },
            {
                **self.visit_memory(self.copies * k * passes.tracked + carried, block),
                "tangents": float(self.recipe.scores.max_tokens) * 8 * self.shape.intermediate * self.item,
            },
            tokens * (4.0 * kt + 4.0) + n * 4.0 * k,
            python=FIXED["stage"] + n * 3 * PER_RECORD["read"],
            sharded=True,
        )

    def spans(self) -> StageCost:
        """Steps of every example; on a sample the tokens of every fold, and steps cut out and scored again: by one
        process, with as many directions at a time as fit, at least one."""
        a, k, s, passes = self.amounts, self.folds(), self.amounts.length, self.passes
        sample = min(self.recipe.scores.span_examples, a.train)
        cut = min(self.recipe.scores.delete_examples, a.train) * STEPS_PER_EXAMPLE
        cut = min(cut, max(a.train, LEAST_DELETIONS))
        return StageCost(
            "spans",
            {
                "forward": sample * s * passes.forward_mode(s, a.response, k),
                "visit": cut * s * (passes.visit(s, a.response) + passes.formed),
            },
            self.visit_memory(2.0 * passes.tracked, self.in_a_batch(s) * passes.largest),
            (a.train + a.pool) * STEPS_PER_EXAMPLE * 60.0,
            python=FIXED["stage"] + (a.train + a.pool) * PER_RECORD["spans"] + cut * s * PER_TOKEN,
            at_most=1,
        )

    def queries(self) -> StageCost:
        """Every query by itself. While handfuls of full directions fit, a visit for each handful, and one to the
        examples among some query's strongest, for their tokens; else one visit with directions of low rank."""
        a, s, passes = self.amounts, self.amounts.length, self.passes
        q = min(self.recipe.scores.queries or a.queries, a.queries)
        tokens = a.train * s
        visit, low = passes.visit(s, a.response), 2.0 * q * RANK * passes.sides
        handful = DIRECTION_BYTES // (SUM_BYTES * passes.tracked)
        own = q * (a.prompt + a.answer)
        if handful < min(8, q):
            scored, products = tokens * visit, tokens * low + own * passes.covariances + q * self.truncation(RANK)
        else:
            visits = math.ceil(q / handful)
            chosen = min(2.0 * q * self.recipe.scores.query_top, float(a.train)) * s
            scored = visits * tokens * visit + chosen * visit
            products = visits * tokens * passes.formed + a.train * passes.contraction(q)
            products += q * passes.preconditioning + chosen * low
        return StageCost(
            "queries",
            {
                "visit": own * passes.visit(a.prompt + a.answer, RESPONSE) + scored,
                "product": own * passes.formed + products,
            },
            self.visit_memory(q * RANK * passes.sides + min(handful, q) * passes.tracked),
            q * min(2.0 * self.recipe.scores.query_top, float(a.train)) * s * 4.0,
            python=FIXED["stage"] + a.train * PER_RECORD["read"],
            at_most=1,
        )

    def truncation(self, rank: int) -> float:
        """Operations of one direction's truncation: three subspace iterations and a projection on either side."""
        return 14.0 * (rank + 8) * self.passes.tracked

    def links(self) -> StageCost:
        """The steps of every query's strongest examples as low-rank directions; visits to the answers with them."""
        a, s, passes = self.amounts, self.amounts.length, self.passes
        kept, answer = self.recipe.scores, self.amounts.prompt + self.amounts.answer
        pairs = 2.0 * min(kept.query_links, kept.query_top) * min(kept.queries or a.queries, a.queries)
        rank = LOW_RANK.max_rank
        steps = min(pairs, float(a.train)) * STEPS_PER_EXAMPLE
        return StageCost(
            "links",
            {
                "visit": (steps * s + pairs * answer) * passes.visit(s, a.response),
                "product": steps * (s * passes.formed + self.truncation(rank))
                + pairs * STEPS_PER_EXAMPLE * answer * 2.0 * rank * passes.sides,
            },
            self.visit_memory(LINK_BYTES / SUM_BYTES, self.in_a_batch(s) * passes.largest),
            pairs * STEPS_PER_EXAMPLE * answer * 4.0,
            python=FIXED["stage"] + a.train * PER_RECORD["read"] + pairs * PER_RECORD["spans"],
            at_most=1,
        )

    def measure(self) -> StageCost:
        """f of the base model and of every fine-tuned one."""
        a, s = self.amounts, self.amounts.prompt + self.amounts.answer
        tokens = a.queries * s * (1 + self.models)
        return StageCost(
            "measure",
            {"forward": tokens * (self.shape.forward(s) + self.shape.logits)},
            self.forward_memory(),
            python=FIXED["stage"] + (1 + self.models) * 0.03,
            at_most=1,
        )

    def on_the_host(self, stage: str, records: float, kind: str, disk: float = 0.0) -> StageCost:
        """A stage of interpreted code only."""
        seconds = FIXED.get(kind, FIXED["stage"]) + records * PER_RECORD.get(kind, 0.0)
        return StageCost(stage, {}, {}, disk, python=seconds, at_most=1)

    def tokenized(self) -> StageCost:
        """Training data and pool as token ids, text and offsets beside them."""
        tokens = (self.amounts.train + self.amounts.pool) * self.amounts.length
        return StageCost("tokenized", {}, {}, tokens * 4.0, python=FIXED["stage"] + tokens * PER_TOKEN, at_most=1)

    def stages(self) -> list[StageCost]:
        """Every stage of the job, under the runner's names."""
        return [self.stage(name) for name in self.names]

    def stage(self, name: str) -> StageCost:
        """The cost of one stage by its name."""
        r, a = self.recipe, self.amounts
        records = a.train + a.pool + a.pretrain
        match name.split("/"):
            case ["records"]:
                # the embedded world is made whole, whatever the limit
                read = 7000 + 2000 if r.data.world is not None else records
                return self.on_the_host(name, read, "records", records * a.length * 3.5)
            case ["base"]:
                return self.sft(name, a.pretrain, r.model.pretrain.epochs if r.model.pretrain is not None else 0.0)
            case ["sft", _] if r.warmup is not None:
                return self.sft(name, min(a.train, r.warmup.examples), r.warmup.epochs)
            case ["sft", _]:
                return self.sft(name, a.train, r.sft.epochs)
            case ["evals", *model]:
                judged = model[-1] == BASE or f"sft/{model[-1]}" == EXPLAINED or model[-1].startswith("original-")
                tasks = [(t, t.held_out * t.samples) for t in a.tasks if judged or t.for_arms]
                return self.answers(name, tasks)
            case ["responses"]:
                return self.answers(name, [(t, t.target * r.targets.samples) for t in a.tasks if t.for_targets])
        made = {
            "tokenized": self.tokenized,
            "convergence": self.convergence,
            "curvature": self.curvature,
            "directions": self.directions,
            "scores": self.scores,
            "spans": self.spans,
            "queries": self.queries,
            "links": self.links,
            "measure": self.measure,
        }
        if name in made:
            return made[name]()
        return self.on_the_host(name, records, "read" if name == "arms" else name)
