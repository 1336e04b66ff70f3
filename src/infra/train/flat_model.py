"""A causal language model as a function of one flat parameter vector.

Training one model, training a stack of models and differentiating through training are then the same few lines of
vector arithmetic: the state of an AdamW run is three vectors ``[P]`` (or three matrices ``[R, P]``).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, pad

from infra.data import TokenizedExample
from infra.errors import InputError, ModelError
from infra.models.precision import exact_in
from infra.train import padded_groups

Form = Literal["per_token", "summed"]

# Parameters that the Hugging Face Trainer leaves out of weight decay: biases and everything named like a norm.
UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)", re.IGNORECASE)


@dataclass(frozen=True)
class FlatModel:
    """``module`` seen as ``log_probs(theta, ids)`` with every trainable parameter in ``theta`` ``[P]``.

    ``start`` is the module's own parameter vector; ``decayed`` (``[P]``, 1 or 0) says where weight decay applies. The
    module itself is never changed. Dropout is off: a replay must repeat what was recorded. ``training_logits``: see
    :meth:`compiled`.
    """

    module: Any
    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    sizes: tuple[int, ...]
    start: Tensor
    decayed: Tensor
    training_logits: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def n_parameters(self) -> int:
        """P."""
        return int(self.start.numel())

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Name -> tensor of that parameter's shape, as views of ``theta [P]``."""
        parts = theta.split(self.sizes)
        return {n: p.view(s) for n, p, s in zip(self.names, parts, self.shapes)}

    def log_probs(self, theta: Tensor, ids: Tensor, where: Tensor | None = None, *, twice: bool = False) -> Tensor:
        """log p(ids[:, t] | ids[:, :t]) as ``[n, T]``; column 0 is 0.

        ``ids``: int64 ``[n, T]``, padded at the end with any token: causal attention keeps padding out of what
        comes before it. ``where``: bool ``[n, T]``, the tokens wanted; the others are 0 and cost no softmax. ``twice``
        picks the attention kernel that can be differentiated twice and vmapped.
        """
        forward: Callable[[Tensor, Tensor], Tensor] = self.logits
        if self.training_logits is not None and theta.requires_grad and not twice:
            forward = self.training_logits
        with exact_in(theta.dtype), sdpa_kernel(SDPBackend.MATH) if twice else nullcontext():
            logits = forward(theta, ids)
            if where is not None:
                wanted = where[:, 1:]
                values = -cross_entropy(logits[:, :-1][wanted], ids[:, 1:][wanted], reduction="none")
                found = torch.zeros_like(wanted, dtype=values.dtype).masked_scatter(wanted, values)
            else:
                found = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        return pad(found, (1, 0))

    def logits(self, theta: Tensor, ids: Tensor) -> Tensor:
        """``[n, T, V]`` under ``theta [P]`` for ``ids [n, T]``."""
        found: Tensor = functional_call(
            self.module, self.unflatten(theta), (), {"input_ids": ids, "use_cache": False}
        ).logits
        return found

    def compiled(self) -> FlatModel:
        """The same model, its training passes fused by ``torch.compile``; the first one takes a minute or two.

        Evaluation and passes that are differentiated twice stay as they are. Results differ by rounding. Raises
        ModelError where there is no C++ compiler.
        """
        if not any(map(shutil.which, ("g++", "c++", "clang++"))):
            raise ModelError("compiled retraining needs a C++ compiler (g++ or clang++); install one or leave it out")
        logits = torch.compile(self.logits)

        def of_any_shape(theta: Tensor, ids: Tensor) -> Tensor:
            for dimension in (0, 1):  # the parameters' shapes stay constants
                torch._dynamo.maybe_mark_dynamic(ids, dimension)
            return logits(theta, ids)

        return replace(self, training_logits=of_any_shape)

    def into(self, theta: Tensor) -> Any:
        """The module with ``theta [P]`` written into its parameters (it is changed in place and returned)."""
        with torch.no_grad():
            own = dict(self.module.named_parameters())
            for name, value in self.unflatten(theta).items():
                own[name].copy_(value)
        return self.module


def flat_model(module: Any) -> FlatModel:
    """See :class:`FlatModel`. Tied parameters count once; frozen ones stay in the module.

    Raises ModelError when nothing is trainable or the trainable parameters differ in dtype.
    """
    module.eval()
    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    if not named:
        raise ModelError("the model has no trainable parameter, so retraining it changes nothing; unfreeze some")
    if len({p.dtype for _, p in named}) > 1:
        raise ModelError("the model's trainable parameters have several dtypes; load it in float32 or float64")
    sizes = tuple(p.numel() for _, p in named)
    decayed = torch.cat([torch.full((p.numel(),), UNDECAYED.search(n) is None) for n, p in named])
    start = torch.cat([p.detach().reshape(-1) for _, p in named])
    return FlatModel(
        module, tuple(n for n, _ in named), tuple(p.shape for _, p in named), sizes, start, decayed.to(start)
    )


@dataclass(frozen=True)
class Microbatch:
    """Sequences padded at the end. ``ids`` int64 ``[n, T]``; ``weights`` ``[n, T]``, what each token's loss is
    multiplied by, zero on prompt and padding; ``rows`` int64 ``[n]``, the example each row came from.
    """

    ids: Tensor
    weights: Tensor
    rows: NDArray[np.int64]


def microbatches(
    examples: Sequence[TokenizedExample],
    weights: Sequence[NDArray[np.float64]],
    rows: Sequence[int],
    max_tokens: int,
    like: Tensor,
    keep_silent: bool = False,
) -> list[Microbatch]:
    """``rows`` of ``examples`` in batches of at most ``max_tokens`` padded tokens, short ones together.

    Rows whose weights are all zero are left out (they add nothing to a sum), unless ``keep_silent``. ``like`` gives
    dtype and device of the weights.
    """
    kept = [r for r in rows if keep_silent or weights[r].any()]
    groups = padded_groups([len(examples[r]) for r in kept], max_tokens)
    return [_padded(examples, weights, [kept[i] for i in group], like) for group in groups]


def _padded(
    examples: Sequence[TokenizedExample], weights: Sequence[NDArray[np.float64]], rows: list[int], like: Tensor
) -> Microbatch:
    longest = max(len(examples[r]) for r in rows)
    ids = np.zeros((len(rows), longest), np.int64)
    values = np.zeros((len(rows), longest))
    for i, r in enumerate(rows):
        ids[i, : len(examples[r])] = examples[r].input_ids
        values[i, : len(examples[r])] = weights[r]
    return Microbatch(
        torch.from_numpy(ids).to(like.device), torch.from_numpy(values).to(like), np.array(rows, np.int64)
    )


def loss_weights(
    examples: Sequence[TokenizedExample],
    example_weights: NDArray[np.floating] | None = None,
    token_weights: Sequence[NDArray[np.floating]] | None = None,
) -> list[NDArray[np.float64]]:
    """What multiplies each token's loss: mask x the record's own weights x the given ones. One ``[T_i]`` an example.

    ``example_weights`` ``[N]``; ``token_weights`` one ``[T_i]`` an example. Raises InputError on a wrong length.
    """
    out = []
    for i, example in enumerate(examples):
        w = example.loss_mask * float(example.weight)
        if example.token_weights is not None:
            w = w * example.token_weights
        if token_weights is not None:
            if len(token_weights[i]) != len(example):
                raise InputError(
                    f"record {example.id}: {len(token_weights[i])} token weights for {len(example)} tokens"
                )
            w = w * token_weights[i]
        if example_weights is not None:
            w = w * float(example_weights[i])
        out.append(np.asarray(w, np.float64))
    return out


def query_weights(queries: Sequence[TokenizedExample], form: Form = "per_token") -> list[NDArray[np.float64]]:
    """Weights that make sum(weights * log p) one query's f: 1 a response token, or 1/n of them."""
    return [q.loss_mask / (max(q.n_response_tokens, 1) if form == "per_token" else 1.0) for q in queries]


@torch.no_grad()
def query_values(
    flat: FlatModel,
    theta: Tensor,
    queries: Sequence[TokenizedExample],
    form: Form = "per_token",
    max_tokens: int = 8192,
) -> NDArray[np.float64]:
    """log-likelihood of every query's response under ``theta [P]`` (or a stack ``[R, P]``): ``[Q]`` or ``[R, Q]``."""
    if theta.dim() == 2:
        return np.stack([query_values(flat, one, queries, form, max_tokens) for one in theta])
    out = np.zeros(len(queries))
    for batch in microbatches(queries, query_weights(queries, form), range(len(queries)), max_tokens, theta, True):
        values = (flat.log_probs(theta, batch.ids, batch.weights != 0) * batch.weights).sum(1)
        out[batch.rows] = values.double().cpu().numpy()
    return out
