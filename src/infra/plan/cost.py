"""What each stage costs: operations, decoding steps, memory, disk. The formulas are derived in docs/scale.md.

Notation: d hidden, m intermediate, L layers, V vocabulary, a width of all heads, s tokens of an example, rho the share
of them under the loss, K directions. A product of ``[T, i]`` and ``[i, o]`` counts ``2 T i o`` operations. All amounts
are of one process holding the whole model; :mod:`infra.plan.duration` spreads them over devices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from infra.pipeline.recipe import Recipe
from infra.plan.amounts import Amounts, Task
from infra.plan.devices import BYTES
from infra.plan.shapes import Matrix, Shape

EIGH = 12.0
"""Operations of one symmetric eigendecomposition with vectors over n^3 (tridiagonal 4/3, eigenvectors of it and their
transformation back the rest)."""
TANGENTS = 8
SUM_BYTES = 4
HEAD_BYTES = 64 << 20
QUERY_BYTES, QUERY_RANK = 1 << 29, 32
"""As in the stage `queries`: bytes of a handful of full directions, and the rank of the others."""
STEPS_PER_EXAMPLE = 6.0
"""Steps of a response that are cut out and scored again, on average."""

PER_RECORD = {
    "records": 1.36e-3,
    "encode": 0.35e-3,
    "grade": 6e-3,
    "spans": 6e-3,
    "report": 0.2e-3,
    "effects": 0.6e-3,
}
"""Seconds of interpreted code a record (``grade``: an answer), measured on the reference machine of docs/scale.md."""
FIXED = {"stage": 0.4, "sft": 1.5, "evals": 1.0, "effects": 2.0, "results": 2.0, "report": 1.0}
"""Seconds that do not grow with the data (imports, the sandbox, tables and figures), on the same machine."""


@dataclass(frozen=True, slots=True)
class Work:
    """One stage. ``flops`` by kind: ``train``, ``visit`` (forward and backward to the inputs), ``forward`` (with
    tangents), ``product`` (large matrix products beside them), ``eigh`` (float64). ``steps``: decoding steps, and
    ``prompt_flops`` of filling the cache. ``python``: seconds of interpreted code. ``memory``: bytes of weights, state
    and activations; ``disk``: bytes left behind. ``at_most``: devices beyond these make it no faster. ``sharded``:
    under FSDP the model is shared out; other stages load it whole."""

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
    """The costs of a recipe's stages on one model shape."""

    recipe: Recipe
    shape: Shape
    amounts: Amounts

    # operations of one token

    @property
    def body(self) -> float:
        """Forward through the layers' matrices: 2 x weights."""
        return 2.0 * self.shape.body

    def mixing(self, s: float) -> float:
        """Forward attention over a causal context of s tokens: 2 s a a layer (queries with keys, and with values)."""
        return 2.0 * self.shape.layers * s * self.shape.attention_width

    @property
    def head(self) -> float:
        """Logits of one token: 2 V d."""
        return 2.0 * self.shape.embedding

    def train_token(self, s: float) -> float:
        """Forward, and twice as much backward; once more forward with gradient checkpointing."""
        again = 1.0 if self.recipe.sft.gradient_checkpointing else 0.0
        return (3.0 + again) * (self.body + self.mixing(s)) + 3.0 * self.head

    def visit_token(self, s: float, rho: float) -> float:
        """Forward, backward to every layer's input but to no weight, and the head forward and backward where there is a
        loss: 2 body + 3 mixing + 2 rho head; body and mixing once more where activations are recomputed."""
        again = 1.0 if self.recipe.scale.recompute else 0.0
        return (2.0 + again) * self.body + (3.0 + again) * self.mixing(s) + 2.0 * rho * self.head

    def forward_token(self, s: float, rho: float, k: float) -> float:
        """Forward with k tangents: each goes through every weight and, as dW x, through the tracked ones."""
        return (
            self.body
            + self.mixing(s)
            + k * (self.body + 2.0 * self.tracked_size + 2 * self.mixing(s))
            + 2 * rho * self.head
        )

    # sums over the tracked matrices of all layers

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        return self.shape.tracked(self.recipe.curvature.tracked)

    @property
    def tracked_size(self) -> float:
        return float(self.shape.layers * sum(m.size for m in self.matrices))

    def side(self, n: int) -> int:
        """Width of one block of a factor of width n."""
        return min(n, self.recipe.curvature.block_size or n)

    @property
    def factor_size(self) -> float:
        """Numbers in all covariances, or in all eigenvectors: o^2 each, i^2 where inputs are not shared; o b and i b
        with blocks of b."""
        each = sum(
            m.out * self.side(m.out) + (0 if m.shared else m.inputs * self.side(m.inputs)) for m in self.matrices
        )
        return float(self.shape.layers * each)

    @property
    def largest(self) -> float:
        """Numbers in the largest tracked matrix."""
        return float(max(m.size for m in self.matrices))

    @property
    def largest_factor(self) -> float:
        """Numbers in the largest covariance, or basis."""
        return float(max(n * self.side(n) for m in self.matrices for n in (m.out, m.inputs)))

    def rotation(self, n: int) -> float:
        """Operations of rotating one vector of width n."""
        return 2.0 * n * self.side(n)

    def corrected(self, s: float) -> float:
        """Operations a token of the corrected eigenvalues: the cheaper of rotating rows and formed gradients."""
        total = 0.0
        for m in self.matrices:
            formed = 2.0 * m.size
            rows = self.rotation(m.out) + (0.0 if m.shared else self.rotation(m.inputs))
            gradients = m.size * (self.rotation(m.out) / m.out + self.rotation(m.inputs) / m.inputs) / s
            total += formed + min(rows, gradients)
        return self.shape.layers * total

    @property
    def sides(self) -> float:
        """Sum of o + i over the tracked matrices."""
        return float(self.shape.layers * sum(m.out + m.inputs for m in self.matrices))

    @property
    def preconditioning(self) -> float:
        """Operations of one direction: into the eigenbasis and back."""
        each = sum(m.size * (self.rotation(m.out) / m.out + self.rotation(m.inputs) / m.inputs) for m in self.matrices)
        return 2.0 * self.shape.layers * each

    # memory

    def weights(self, dtype: str) -> float:
        return float(self.shape.parameters * BYTES[dtype])

    def kept(self, dtype: str, tokens: float) -> float:
        """Activations kept for a backward pass: a layer's inputs to its matrices and norms, queries, keys, values and
        products."""
        s, b = self.shape, BYTES[dtype]
        layer = 6.0 * s.hidden + 2.0 * s.attention_width + 2.0 * s.kv_width + 4.0 * s.intermediate
        return tokens * b * s.layers * layer

    def kept_checkpointed(self, dtype: str, tokens: float) -> float:
        return (
            tokens * BYTES[dtype] * self.shape.layers * self.shape.hidden + self.kept(dtype, tokens) / self.shape.layers
        )

    # stages

    def folds(self) -> int:
        """Directions: (target, level, part)."""
        a, parts = self.amounts, self.recipe.targets.folds
        if a.folds is not None:
            return a.folds
        return max(1, min(a.n_targets * a.levels * parts, max(1, a.queries)))

    def token_targets(self) -> int:
        return max(1, min(len(self.recipe.scores.token_targets), self.amounts.n_targets))

    def models(self) -> int:
        """Fine-tuned models of the run."""
        return self.recipe.seeds * (1 + len(self.recipe.arms.names))

    def sft(self, stage: str, examples: int, epochs: float) -> Work:
        s, dtype = self.amounts.length, self.recipe.model.dtype
        batch = min(float(self.recipe.sft.max_tokens_per_microbatch), examples * s)
        activations = (self.kept_checkpointed if self.recipe.sft.gradient_checkpointing else self.kept)(dtype, batch)
        logits = batch * self.shape.vocabulary * (BYTES[dtype] + 8.0)
        tokens = epochs * examples * s
        return Work(
            stage,
            {"train": tokens * self.train_token(s)},
            {
                "weights": self.weights(dtype),
                "gradients": self.weights(dtype),
                "optimiser": 2 * self.weights(dtype),
                "activations": activations + logits,
            },
            self.weights(dtype),
            python=FIXED["sft"] + examples * (PER_RECORD["encode"] + PER_RECORD["encode"] * epochs),
            sharded=True,
        )

    def answers(self, stage: str, tasks: list[tuple[Task, int]]) -> Work:
        """Generation in batches of at most ``max_batch_tokens``; a batch runs as long as its longest answer."""
        a, dtype = self.amounts, self.recipe.model.dtype
        room = a.prompt + self.recipe.eval.max_new_tokens
        at_once = max(1.0, self.recipe.eval.max_batch_tokens / room)
        n = float(sum(count for _, count in tasks))
        batches = sum(max(1.0, count / at_once) for _, count in tasks if count)
        longest = min(float(self.recipe.eval.max_new_tokens), 2.0 * a.answer)
        steps = batches * longest
        per_row = 2 * (self.body + self.mixing(a.prompt)) * a.prompt / 2
        tokens = n * a.answer
        rows = min(at_once, n / max(1.0, batches))
        cache = 2.0 * self.shape.layers * self.shape.kv_width * BYTES[dtype] * rows * room
        return Work(
            stage,
            {"forward": n * per_row + tokens * (self.body + self.mixing(room) + self.head)},
            {"weights": self.weights(dtype), "cache": cache},
            tokens * 5.0 + n * 100.0,
            steps=steps,
            step_rows=rows,
            step_context=room,
            python=FIXED["evals"] + n * PER_RECORD["grade"],
        )

    def visit_memory(self, rows: float = 0.0, block: float = 0.0) -> dict[str, float]:
        """Bytes of a pass with a backward: ``rows`` of sums, bases and directions, which lie as the weights do, and
        what there is of one ``block`` while the pass hands it over."""
        dtype = self.recipe.model.dtype
        tokens = max(float(self.recipe.scores.max_tokens), self.amounts.length)
        kept = self.kept_checkpointed if self.recipe.scale.recompute else self.kept
        return {
            "weights": self.weights(dtype),
            "activations": kept(dtype, tokens) + 2 * HEAD_BYTES,
            "rows": rows,
            "block": block,
        }

    def in_a_batch(self, length: float) -> float:
        """Examples of ``length`` tokens in a batch."""
        return max(1.0, self.recipe.scores.max_tokens // max(1.0, length))

    def forward_memory(self) -> dict[str, float]:
        """Bytes of a pass without a backward: one layer's activations at a time."""
        dtype = self.recipe.model.dtype
        tokens = max(float(self.recipe.scores.max_tokens), self.amounts.length)
        return {
            "weights": self.weights(dtype),
            "activations": self.kept(dtype, tokens) / self.shape.layers + 2 * HEAD_BYTES,
        }

    def curvature(self) -> Work:
        a, c = self.amounts, self.recipe.curvature
        s, fraction = a.length, c.fraction if isinstance(c.fraction, float) else 0.25
        tokens = fraction * a.train * s
        visits = 2.0 if c.method == "ekfac" else 1.0
        grams = self.shape.layers * sum(
            self.rotation(m.out) + (0.0 if m.shared else self.rotation(m.inputs)) for m in self.matrices
        )
        eigh = self.shape.layers * sum(
            n / self.side(n) * EIGH * self.side(n) ** 3
            for m in self.matrices
            for n in ((m.out,) if m.shared else (m.out, m.inputs))
        )
        products = tokens * (
            (grams if c.method in ("ekfac", "kfac") else 0.0) + (self.corrected(s) if c.method == "ekfac" else 0.0)
        )
        # sums so far and those of the shard under way, which are one under FSDP; later the bases, and eigenvalues so
        first = self.copies * self.factor_size if c.method in ("ekfac", "kfac") else 0.0
        second = (self.factor_size if c.method == "ekfac" else 0.0) + (
            self.copies * self.tracked_size if c.method != "kfac" else 0.0
        )
        rows = max(first, second) * SUM_BYTES
        # its bases; a gradient formed, rotated, squared, added up, and that as it is sent
        block = (2.0 * self.largest_factor + 5.0 * self.largest) * SUM_BYTES
        return Work(
            "curvature",
            {
                "visit": visits * tokens * self.visit_token(s, a.response),
                "product": products,
                "eigh": eigh if c.method in ("ekfac", "kfac") else 0.0,
            },
            self.visit_memory(rows, block),
            (self.factor_size + self.tracked_size) * SUM_BYTES,
            at_most=self.sum_processes,
            python=FIXED["stage"] + a.train * PER_RECORD["encode"],
            sharded=True,
        )

    @property
    def copies(self) -> float:
        """Of sums (the sum and a shard's part) and of directions while scoring (as they were read, and as matrices).
        Under FSDP a shard's part is the sum, and matrices are made block by block."""
        return 1.0 if self.recipe.scale.fsdp else 2.0

    @property
    def sum_processes(self) -> float:
        """Processes that can work on a sum: one a shard, or, under FSDP, all on the same."""
        return float("inf") if self.recipe.scale.fsdp else float(self.recipe.curvature.sum_shards)

    def directions(self) -> Work:
        a, k = self.amounts, self.folds()
        tokens = a.queries * (a.prompt + a.answer)
        form = tokens * 2.0 * self.tracked_size + 2.0 * k * a.queries * self.tracked_size
        rotate = k * self.preconditioning
        # each example's gradient, the sums over groups, and those as they are sent
        block = (self.in_a_batch(a.prompt + a.answer) + 2.0 * k) * self.largest * SUM_BYTES
        return Work(
            "directions",
            {"visit": tokens * self.visit_token(a.prompt + a.answer, 0.8), "product": form, "eigh": rotate},
            self.visit_memory(k * self.tracked_size * SUM_BYTES, block),
            k * self.tracked_size * SUM_BYTES,
            at_most=self.sum_processes,
            python=FIXED["stage"] + a.queries * PER_RECORD["encode"],
            sharded=True,
        )

    def scores(self) -> Work:
        """Every example on every fold by formed gradients, every token on the token targets in forward mode."""
        a, k, kt, s = self.amounts, self.folds(), self.token_targets(), self.amounts.length
        n = a.train + a.pool
        tokens = n * s
        at_once = float(self.recipe.scores.max_tokens)
        contract = tokens * 2.0 * self.tracked_size + 2.0 * k * n * self.tracked_size
        per_pass = min(kt, TANGENTS)
        passes = -(-kt // TANGENTS)
        carried = kt * self.tracked_size * BYTES[self.recipe.model.dtype]
        # each example's gradient, and the directions as rows, whole and as matrices
        block = (self.in_a_batch(s) + 3.0 * k) * self.largest * SUM_BYTES
        return Work(
            "scores",
            {
                "visit": tokens * self.visit_token(s, a.response),
                "product": contract,
                "forward": tokens * passes * self.forward_token(s, a.response, per_pass),
            },
            {
                **self.visit_memory(self.copies * k * self.tracked_size * SUM_BYTES + carried, block),
                "tangents": at_once * 8 * self.shape.intermediate * BYTES[self.recipe.model.dtype],
            },
            tokens * (4.0 * kt + 4.0) + n * 4.0 * k,
            python=FIXED["stage"] + n * (2 * PER_RECORD["encode"] + PER_RECORD["encode"]),
            sharded=True,
        )

    def spans(self) -> Work:
        """Steps of every example; on a sample the tokens of every fold, and steps cut out and scored again: by one
        process, with as many directions at a time as fit, at least one."""
        a, k, s = self.amounts, self.folds(), self.amounts.length
        sample = min(self.recipe.scores.span_examples, a.train)
        cut = min(self.recipe.scores.delete_examples, a.train) * STEPS_PER_EXAMPLE
        passes = -(-k // TANGENTS)
        wide = sample * s * passes * self.forward_token(s, a.response, min(k, TANGENTS))
        deleted = cut * s * (self.visit_token(s, a.response) + 2.0 * self.tracked_size)
        return Work(
            "spans",
            {"forward": wide, "visit": deleted},
            self.visit_memory(2.0 * self.tracked_size * SUM_BYTES, self.in_a_batch(s) * self.largest * SUM_BYTES),
            (a.train + a.pool) * STEPS_PER_EXAMPLE * 60.0,
            python=FIXED["stage"] + (a.train + a.pool) * PER_RECORD["spans"],
            at_most=1,
        )

    def queries(self) -> Work:
        """Every query by itself. While handfuls of full directions fit, a visit for each handful; else one visit with
        directions of low rank. Then a visit to the examples that are among some query's strongest, for their tokens."""
        a, s = self.amounts, self.amounts.length
        q = min(self.recipe.scores.queries or a.queries, a.queries)
        tokens = a.train * s
        visit, low = self.visit_token(s, a.response), 2.0 * q * QUERY_RANK * self.sides
        handful = QUERY_BYTES // (SUM_BYTES * self.tracked_size)
        if handful < min(8, q):
            scored, products = tokens * visit, tokens * low
        else:
            scored = math.ceil(q / handful) * tokens * visit
            products = math.ceil(q / handful) * tokens * 2.0 * self.tracked_size + 2.0 * q * a.train * self.tracked_size
        chosen = min(2.0 * q * self.recipe.scores.query_top, float(a.train)) * s
        own = q * (a.prompt + a.answer)
        return Work(
            "queries",
            {
                "visit": own * self.visit_token(a.prompt + a.answer, 0.8) + scored + chosen * visit,
                "product": own * 2.0 * self.tracked_size + products + chosen * low,
                "eigh": q * self.preconditioning,
            },
            self.visit_memory(
                q * QUERY_RANK * self.sides * SUM_BYTES + min(handful, q) * self.tracked_size * SUM_BYTES
            ),
            q * min(2.0 * self.recipe.scores.query_top, float(a.train)) * s * 4.0,
            python=FIXED["stage"] + a.train * PER_RECORD["encode"],
            at_most=1,
        )

    def measure(self) -> Work:
        a = self.amounts
        tokens = a.queries * (a.prompt + a.answer) * (1 + self.models())
        return Work(
            "measure",
            {"forward": tokens * (self.body + self.mixing(a.prompt + a.answer) + self.head)},
            self.forward_memory(),
            python=FIXED["stage"] + (1 + self.models()) * 0.03,
            at_most=1,
        )

    def on_the_host(self, stage: str, records: float, kind: str, disk: float = 0.0) -> Work:
        """A stage of interpreted code only."""
        return Work(
            stage,
            {},
            {},
            disk,
            python=FIXED.get(kind, FIXED["stage"]) + records * PER_RECORD.get(kind, 0.0),
            at_most=1,
        )

    def stages(self) -> list[Work]:
        """Every stage of `infra run`, in order, under the runner's names."""
        r, a = self.recipe, self.amounts
        records = a.train + a.pool + a.pretrain
        characters = records * a.length * 3.5
        held = [(t, t.held_out * t.samples) for t in a.tasks]
        arms = [(t, n) for t, n in held if t.for_arms]
        drawn = [(t, t.target * r.targets.samples) for t in a.tasks if t.for_targets]
        # the embedded world is made whole, whatever the limit
        read = 7000 + 2000 if r.data.world is not None else records
        out = [self.on_the_host("records", read, "records", characters)]
        if r.model.pretrain is not None:
            out.append(self.sft("base", a.pretrain, r.model.pretrain.epochs))
        out.append(self.answers("evals/base", held))
        for seed in range(r.seeds):
            out += [
                self.sft(f"sft/original-s{seed}", a.train, r.sft.epochs),
                self.answers(f"evals/original-s{seed}", held),
            ]
        out += [
            self.answers("responses", drawn),
            self.on_the_host("targets", a.queries, "stage"),
            self.curvature(),
            self.directions(),
            self.scores(),
            self.spans(),
        ]
        if r.scores.query_top:
            out.append(self.queries())
        out += [self.on_the_host("effects", records, "effects"), self.on_the_host("arms", records, "encode")]
        for arm in r.arms.names:
            for seed in range(r.seeds):
                out += [
                    self.sft(f"sft/{arm}-s{seed}", a.train, r.sft.epochs),
                    self.answers(f"evals/{arm}-s{seed}", arms),
                ]
        out += [
            self.measure(),
            self.on_the_host("results", 0, "results"),
            self.on_the_host("report", records, "report"),
        ]
        return out
