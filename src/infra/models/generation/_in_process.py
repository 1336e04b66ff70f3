"""Text from a model in this process: left-padded batches of similar length, a growing key-value cache,
finished rows dropped from the batch as they end."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from infra.errors import InputError, ResourceError
from infra.models.generation._types import (
    Generation,
    Key,
    OnResult,
    Prompt,
    Sampling,
    check_prompts,
    content_hash,
    in_order,
)
from infra.models.hashing import generation_config_hash, tokenizer_hash
from infra.models.limits import Limits
from infra.models.memory import is_memory

KEEP_FRACTION = 0.85  # finished rows are dropped once the live ones are fewer than this share of the batch


@dataclass(frozen=True, slots=True)
class _Row:
    prompt: Prompt
    index: int
    ids: list[int]


class _BufferedLayer(DynamicLayer):
    """A cache layer that writes into a buffer with room to grow, so that a step copies one token and not
    all.
    """

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Append ``[rows, heads, new, dim]`` keys and values; return views of all of them so far."""
        new = key_states.shape[-2]
        old = self.keys.shape[-2] if self.is_initialized and self.keys is not None else 0
        if not self.is_initialized:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.is_initialized = True
            self._room: list[Any] = [None, None]
        for which, states in enumerate((key_states, value_states)):
            room = self._room[which]
            if room is None or room.shape[-2] < old + new or room.shape[0] != states.shape[0]:
                grown = states.new_empty(*states.shape[:-2], max(64, (old + new) * 3 // 2), states.shape[-1])
                if old:
                    grown[..., :old, :] = self.keys if which == 0 else self.values
                self._room[which] = room = grown
            room[..., old : old + new, :] = states
        self.keys = self._room[0][..., : old + new, :]
        self.values = self._room[1][..., : old + new, :]
        return self.keys, self.values


def _new_cache(config: Any) -> Cache:
    cache = DynamicCache(config=config)
    for i, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[i] = _BufferedLayer()
    return cache


def draw(logits: torch.Tensor, sampling: Sampling, uniform: Sequence[float]) -> torch.Tensor:
    """One token per row from ``logits`` ``[rows, vocab]``: the largest, or by inverting the cumulative
    distribution.

    ``uniform`` holds one number in [0, 1) per row and is not read when ``temperature`` is 0. The kept set
    under ``top_p`` is the shortest prefix of tokens by falling probability that reaches it; never empty.
    int64 ``[rows]``.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probability = torch.softmax(logits.double() / sampling.temperature, -1)
    ordered, token = torch.sort(probability, dim=-1, descending=True, stable=True)
    total = ordered.cumsum(-1)
    ordered = ordered.masked_fill(total - ordered >= sampling.top_p, 0.0)
    total = ordered.cumsum(-1)
    point = torch.tensor(list(uniform), dtype=torch.float64, device=logits.device)[:, None] * total[:, -1:]
    rank = torch.searchsorted(total, point, right=True).clamp(max=logits.shape[-1] - 1)
    return token.gather(-1, rank)[:, 0]


def stream(seed: int, prompt: Prompt, index: int) -> np.random.Generator:
    """The random stream of one (prompt content, sample): it does not depend on the batch or on what ran
    before.
    """
    digest = hashlib.sha256(f"{seed}|{content_hash(prompt)}|{index}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


class InProcess:
    """Generates with a loaded causal language model.

    ``max_batch_tokens`` bounds rows x (longest prompt + ``max_new_tokens``) of one batch. The batches are
    planned from all prompts, finished or not, so that a resumed run repeats the same arithmetic.
    ``identity`` should be the model's hash; without it the cache cannot tell two models apart. Tokenizer, chat template
    and generation configuration are hashed here, whatever name is given.
    """

    def __init__(self, model: Any, tokenizer: Any, max_batch_tokens: int = 65536, identity: str = "in-process") -> None:
        self._model, self._tokenizer, self._max_batch_tokens = model, tokenizer, max_batch_tokens
        self._identity = identity
        self._said = False
        self._fingerprint: str | None = None
        ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
        ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
        if tokenizer.eos_token_id is not None:
            ends = [*ends, tokenizer.eos_token_id]
        self._ends = frozenset(int(e) for e in ends)
        self._pad = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self._ends, default=0))

    @property
    def identity(self) -> str:
        """Names weights, tokenizer and generation configuration in cache keys."""
        if self._fingerprint is None:
            self._fingerprint = f"{tokenizer_hash(self._tokenizer)} {generation_config_hash(self._model)}"
        return f"{self._identity} {self._fingerprint}"

    def plan(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[_Row]]:
        """Batches of rows, sorted by prompt length. Raises ``InputError`` naming a prompt that fills the
        context.
        """
        check_prompts(prompts)
        limits = Limits.of(self._model)
        limit, cut = limits.trained, 0
        rows: list[_Row] = []
        for prompt in prompts:
            ids = self._encode(prompt)
            if not ids:
                raise InputError(f"prompt {prompt.id!r} has no tokens; give it at least one message")
            if limit is not None and len(ids) >= limit:
                raise InputError(
                    f"prompt {prompt.id!r} has {len(ids)} tokens and the model's context is {limit}; "
                    "shorten it or leave it out"
                )
            limits.check(f"prompt {prompt.id!r}", ids)
            cut += limit is not None and len(ids) + sampling.max_new_tokens > limit
            rows += [_Row(prompt, index, ids) for index in range(sampling.n)]
        if cut and not self._said:
            self._said = True
            print(
                f"warning: {cut} of {len(prompts)} prompts with max_new_tokens {sampling.max_new_tokens} reach past "
                f"the {limit:,} tokens that the model was trained on; their responses are cut there",
                file=sys.stderr,
            )
        rows.sort(key=lambda row: (len(row.ids), row.prompt.id, row.index))
        batches: list[list[_Row]] = []
        for row in rows:
            cost = len(row.ids) + sampling.max_new_tokens
            if batches and (len(batches[-1]) + 1) * cost <= self._max_batch_tokens:
                batches[-1].append(row)
            else:
                batches.append([row])
        return batches

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seed: int,
        on_result: OnResult | None = None,
        done: Collection[Key] = frozenset(),
    ) -> list[Generation]:
        """Generations of all prompts but those in ``done``, ordered by prompt and sample.

        Raises ``InputError`` for an empty prompt, one as long as the context, or two with the same id.
        """
        results: list[Generation] = []
        known = set(done)
        was_training = self._model.training
        self._model.eval()
        try:
            for batch in self.plan(prompts, sampling):
                if all((row.prompt.id, row.index) in known for row in batch):
                    continue
                results += self._halving(batch, sampling, seed, known, on_result)
        finally:
            self._model.train(was_training)
        return in_order(prompts, results)

    def _halving(
        self, batch: list[_Row], sampling: Sampling, seed: int, known: set[Key], on_result: OnResult | None
    ) -> list[Generation]:
        """A batch's generations; where memory runs out, those of its halves, down to one row."""
        out: list[Generation] = []
        try:
            self._run(batch, sampling, seed, known, on_result, out)
            return out
        except (MemoryError, RuntimeError) as error:
            if not is_memory(error):
                raise
            if len(batch) == 1:
                raise ResourceError(
                    f"prompt {batch[0].prompt.id!r} does not fit in memory alone; lower max_new_tokens, or use bfloat16"
                ) from error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"out of memory with {len(batch)} answers at a time: going on with half as many", file=sys.stderr)
        told = known | {(g.prompt_id, g.index) for g in out}
        left = [row for row in batch if (row.prompt.id, row.index) not in told]
        for half in (left[: len(left) // 2], left[len(left) // 2 :]):
            out += self._halving(half, sampling, seed, told, on_result) if half else []
        return out

    @torch.inference_mode()
    def _run(
        self,
        batch: list[_Row],
        sampling: Sampling,
        seed: int,
        known: set[Key],
        on_result: OnResult | None,
        out: list[Generation],
    ) -> None:
        """Answer the rows of a batch; each answer goes to ``out`` when it is finished."""
        device = self._model.device
        longest = max(len(row.ids) for row in batch)
        limit = getattr(self._model.config, "max_position_embeddings", None) or 1 << 62
        room = [min(sampling.max_new_tokens, limit - len(row.ids)) for row in batch]
        ids = torch.full((len(batch), longest), self._pad, dtype=torch.long)
        mask = torch.zeros((len(batch), longest), dtype=torch.long)
        for i, row in enumerate(batch):
            ids[i, longest - len(row.ids) :] = torch.tensor(row.ids)
            mask[i, longest - len(row.ids) :] = 1
        ids, mask = ids.to(device), mask.to(device)
        position = (mask.cumsum(-1) - 1).clamp(min=0)
        streams = [stream(seed, row.prompt, row.index) if sampling.temperature > 0 else None for row in batch]
        written: list[list[int]] = [[] for _ in batch]
        finish = [""] * len(batch)
        live = list(range(len(batch)))
        cache = _new_cache(self._model.config)
        while True:
            logits = (
                self._model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=position,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                .logits[:, -1]
                .float()
            )
            uniform = [s.random() if (s := streams[i]) is not None else 0.0 for i in live]
            token = draw(logits, sampling, uniform)
            for i, t in zip(live, token.tolist()):
                if finish[i]:
                    continue
                written[i].append(t)
                finish[i] = "stop" if t in self._ends else "length" if len(written[i]) >= room[i] else ""
                if finish[i]:
                    row = batch[i]
                    if (row.prompt.id, row.index) not in known:
                        out.append(self._finished(row, written[i], finish[i]))
                        if on_result is not None:
                            on_result(out[-1])
            keep = [k for k, i in enumerate(live) if not finish[i]]
            if not keep:
                return
            if len(keep) < KEEP_FRACTION * len(live):
                chosen = torch.tensor(keep, device=device)
                cache.batch_select_indices(chosen)
                mask, token, position = mask[chosen], token[chosen], position[chosen]
                live = [live[k] for k in keep]
            ids = token[:, None]
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], -1)
            position = position[:, -1:] + 1

    def _finished(self, row: _Row, tokens: list[int], finish: str) -> Generation:
        body = tokens[:-1] if finish == "stop" else tokens
        text = self._tokenizer.decode(body, skip_special_tokens=True)
        return Generation(row.prompt.id, row.index, row.prompt.prefix + text, len(tokens), finish)

    def _encode(self, prompt: Prompt) -> list[int]:
        from infra.data import render_prompt  # type: ignore[attr-defined,unused-ignore]

        ids = render_prompt(prompt.messages, self._tokenizer, add_generation_prompt=True, thinking_prefix=prompt.prefix)
        return [int(i) for i in ids]
