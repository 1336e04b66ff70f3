"""The model as two functions: tokens to final hidden states, and hidden states to log-probabilities.

Splitting there keeps the ``[tokens, vocabulary]`` logits out of memory: the head runs on chunks of rows, only
where there is a loss, and hands back the gradient of each log-probability with respect to its hidden state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from infra.errors import ModelError
from infra.influence.engine.attention import documents, forward_attention
from infra.influence.engine.batches import Batch, build_batch
from infra.influence.engine.experts import engine_experts
from infra.influence.engine.hooks import without_gradient_hooks
from infra.models.layers import causal_model
from infra.models.precision import exact_in

HEAD_ELEMENTS = 1 << 24
"""Logits held at once: rows of a chunk times the vocabulary (64 MB in float32)."""


class Backbone(nn.Module):
    """``model`` without its output head, and the head alone, as one module for ``functional_call``."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.wrapped = model
        inner = causal_model(model)
        self._inner, self._config = [inner], inner.config
        if inner.get_output_embeddings() is None or inner.base_model is inner:
            raise ModelError(f"{type(inner).__name__} has no output head; a causal language model is needed")

    def forward(self, rows: Tensor | None, **inputs: Any) -> Tensor:
        """Hidden states ``[B, T, d]`` of ``inputs``, or logits ``[R, V]`` of hidden ``rows [R, d]``."""
        inner = self._inner[0]
        if rows is None:
            return inner.base_model(**inputs, use_cache=False)[0]
        logits = inner.get_output_embeddings()(rows)
        for name in ("logit_scale", "logits_scaling"):
            factor = getattr(self._config, name, None)
            if factor is not None:
                logits = logits * factor if name == "logit_scale" else logits / factor
        cap = getattr(self._config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def hidden(self, batch: Batch, parameters: Mapping[str, Tensor] | None = None, **extra: Any) -> Tensor:
        """Hidden states ``[B, T, d]`` of a batch, with some ``parameters`` replaced."""
        inputs: dict[str, Any] = {"input_ids": batch.input_ids, **extra}
        if "inputs_embeds" in extra:
            del inputs["input_ids"]
        if batch.position_ids is None:
            return self._call(parameters, (None,), inputs)
        inputs["position_ids"] = batch.position_ids
        token = documents.set(tuple((start, start + length) for _, _, start, length in batch.segments))
        try:
            return self._call(parameters, (None,), inputs)
        finally:
            documents.reset(token)

    def logits(self, rows: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits ``[R, V]`` of hidden rows ``[R, d]``."""
        return self._call(parameters, (rows,), {})

    def _call(self, parameters: Mapping[str, Tensor] | None, args: tuple, inputs: dict[str, Any]) -> Tensor:
        if not parameters:
            return self(*args, **inputs)
        replaced = {f"wrapped.{name}": tensor for name, tensor in parameters.items()}
        return functional_call(self, replaced, args, inputs)

    @property
    def head_parameters(self) -> set[str]:
        """Names of the parameters the head uses."""
        inside = {id(p) for p in self._inner[0].get_output_embeddings().parameters()}
        return {name for name, p in self.wrapped.named_parameters() if id(p) in inside}

    def check(self, batch: Batch) -> None:
        """Raise :class:`ModelError` unless backbone and head together give the model's own logits, and unless packed
        documents are apart.

        A model whose logits are made in a way unknown here would otherwise be attributed wrongly in silence.
        """
        ids = batch.input_ids[:1, :8]
        with torch.no_grad():
            own = self.wrapped(input_ids=ids, use_cache=False).logits[0]
            ours = self.logits(self._inner[0].base_model(input_ids=ids, use_cache=False)[0][0])
        difference = float((own - ours).float().norm() / own.float().norm().clamp_min(1e-30))
        if difference > 1e-2:  # a NaN is left for later, where the record can be named
            raise ModelError(
                f"{type(self._inner[0]).__name__} makes its logits in a way this engine does not know "
                f"(relative difference {difference:.2g}); please report the architecture"
            )
        if not batch.one_per_row and len(batch.examples) > 1:
            self._check_packing(batch)

    def _check_packing(self, batch: Batch) -> None:
        """Raise :class:`ModelError` if the second of two packed documents sees the first."""
        pair = build_batch(batch.examples[:2], [0, 1], batch.input_ids.device, packed=True)
        alone = build_batch(batch.examples[1:2], [0], batch.input_ids.device)
        with torch.no_grad():
            expected = self.hidden(alone)[0]
            found = self.hidden(pair)[0, pair.segments[1][2] :]
        if float((found - expected).float().norm()) > 1e-2 * float(expected.float().norm()):
            raise ModelError(
                f"{type(self._inner[0]).__name__} lets packed documents see each other under this attention; "
                "use packed=False"
            )


@contextmanager
def engine_mode(model: Any, forward_mode: bool = False) -> Iterator[None]:
    """Evaluation mode, the engine's experts, float64 kept exact, no checkpointing hooks; all as it was on exit."""
    was_training = model.training
    with ExitStack() as stack:
        stack.enter_context(engine_experts(model))
        stack.enter_context(without_gradient_hooks(model))
        if forward_mode:
            stack.enter_context(forward_attention(model))
        stack.enter_context(exact_in(next(model.parameters()).dtype))
        model.eval()
        try:
            yield
        finally:
            model.train(was_training)


@dataclass(frozen=True)
class HeadPass:
    """What the head gives for the ``R`` predictions of a batch that are under the loss.

    ``log_probability [R]`` of the labels, ``gradient [R, d]`` of it with respect to the hidden state,
    ``where``: int64 ``[R]``, flat positions in the batch.
    """

    log_probability: Tensor
    gradient: Tensor | None
    where: Tensor


def head_pass(
    backbone: Backbone,
    hidden: Tensor,
    batch: Batch,
    gradient: bool = True,
    weights: Tensor | None = None,
    labels: Callable[[Tensor, Tensor], Tensor] | None = None,
    parameters: Mapping[str, Tensor] | None = None,
    chunk: Callable[[Tensor], Any] | None = None,
) -> HeadPass:
    """Log-probabilities under the loss, in chunks of rows, and their gradients with respect to ``hidden``.

    ``weights [B, T]`` multiply each prediction's gradient (not its value). ``labels(logits [r, V], where
    [r])`` replaces the data's next tokens, e.g. by samples. ``chunk(where)`` is a context in which a chunk's
    head runs, so that hooks know which rows they see.
    """
    flat = hidden.detach().reshape(-1, hidden.shape[-1])
    where = batch.loss.reshape(-1).nonzero()[:, 0]
    targets = batch.targets.reshape(-1)[where]
    vocabulary = int(backbone._config.get_text_config().vocab_size)
    step = max(1, HEAD_ELEMENTS // vocabulary)
    values, gradients = [flat.new_zeros(0)], [flat.new_zeros(0, flat.shape[-1])]
    for start in range(0, max(1, len(where)), step):  # without loss too, the head is seen by who watches it
        here = where[start : start + step]
        rows = flat[here]
        with torch.set_grad_enabled(gradient), chunk(here) if chunk else ExitStack():
            if gradient:
                rows.requires_grad_(True)
            logits = backbone.logits(rows, parameters)
            wanted = targets[start : start + step] if labels is None else labels(logits.detach(), here)
            scores = logits.detach() if gradient else logits  # detaching would drop a tangent
            scores = scores.to(accumulator(scores.dtype))
            factors = None if weights is None else weights.reshape(-1)[here]
            values.append(log_softmax_(scores, wanted, gradient, factors))
            if gradient:
                gradients.append(torch.autograd.grad(logits, rows, scores.to(logits.dtype))[0])
    return HeadPass(torch.cat(values), torch.cat(gradients) if gradient else None, where)


def log_softmax_(logits: Tensor, labels: Tensor, gradient: bool = False, weights: Tensor | None = None) -> Tensor:
    """``log softmax(logits)[labels]``, ``[R]``, of ``logits [R, V]``, whose memory is used up.

    With ``gradient``, ``logits`` holds ``weights`` (1 by default) times the gradient of that value with respect to
    the logits afterwards: ``w (onehot - p)``. In place throughout: fresh tensors as wide as the vocabulary cost more
    than the arithmetic on them.
    """
    wanted = labels[:, None]
    chosen, top = logits.gather(1, wanted), logits.amax(-1, keepdim=True)
    total = logits.sub_(top).exp_().sum(-1, keepdim=True)
    if gradient:
        factor = torch.ones_like(total) if weights is None else weights[:, None].to(total.dtype)
        logits.mul_(-factor / total).scatter_add_(1, wanted, factor)
    return (chosen - top - total.log())[:, 0]


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are kept in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def sampled_labels(batch: Batch, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Labels drawn from the model's own distribution, for the true Fisher matrix.

    One random stream per (seed, record id): the label at a position does not depend on what else is in the
    batch, nor on the number of processes. Inverse transform sampling, one uniform number a token.
    """
    uniform = torch.zeros(batch.input_ids.shape, dtype=torch.float64)
    for example, (_, row, start, length) in zip(batch.examples, batch.segments):
        uniform[row, start : start + length] = torch.from_numpy(record_stream(seed, example.id).random(length))
    uniform = uniform.reshape(-1).to(batch.input_ids.device)

    def draw(logits: Tensor, where: Tensor) -> Tensor:
        cumulative = logits.to(accumulator(logits.dtype)).softmax(-1).cumsum(-1)
        threshold = uniform[where, None].to(cumulative.dtype) * cumulative[:, -1:]
        return torch.searchsorted(cumulative, threshold, right=True)[:, 0].clamp_max(logits.shape[-1] - 1)

    return draw


def record_stream(seed: int, record_id: str) -> np.random.Generator:
    """The random stream that belongs to one record under one seed."""
    digest = hashlib.sha256(f"{seed}:{record_id}".encode()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "little")))


def scatter(values: Tensor, where: Tensor, shape: Sequence[int]) -> Tensor:
    """Put ``values [..., R]`` at flat positions ``where`` of zeros ``[..., *shape]``."""
    size = int(np.prod(shape))
    out = values.new_zeros(*values.shape[:-1], size)
    out[..., where] = values
    return out.reshape(*values.shape[:-1], *shape)
