"""The speed of this machine, measured in some seconds on random weights: products, a training step, a decoding step,
interpreted code. What the plan needs and no data sheet of a CPU says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import psutil

from infra.models.shape import Shape
from infra.pipeline.plan.costs import Costs
from infra.pipeline.plan.devices import BYTES, Device, device_of
from infra.train.estimate import training_flops

REFERENCE_PYTHON_S = 0.050
"""Seconds of :func:`_interpreted` on the reference machine of docs/results/scale.md."""
STEP_FLOPS = 4e10
"""Operations of the passes that are timed: about half a second on two cores."""
ENOUGH_S = 3.0
"""Seconds after which no further call is timed."""
LARGEST = 10_000_000
"""Weights in layers beyond which a model of fewer layers is measured in place of the whole."""


def device_named(text: str, costs: Costs) -> Device:
    """``cpu`` calibrated for the shape of ``costs``, or one of :func:`infra.pipeline.plan.devices.device_of`."""
    return calibrate(costs) if text == "cpu" else device_of(text)


def calibrate(costs: Costs) -> Device:
    """This machine's CPU as a device for the shape of ``costs``, in its dtype and with torch's current threads."""
    import torch

    shape, dtype = costs.shape, getattr(torch, costs.recipe.model.dtype)
    layers = max(1, min(shape.layers, LARGEST * shape.layers // max(1, shape.body)))
    small = replace(shape, layers=layers)
    length = max(8, round(costs.amounts.length))
    per_step = max(1, min(costs.recipe.sft.batch_size, costs.recipe.sft.max_tokens_per_microbatch // length))
    model = _random_model(small, dtype)
    flops_of_row = length * training_flops(small, length, costs.recipe.sft.gradient_checkpointing)
    rows = max(1, min(per_step, int(STEP_FLOPS / flops_of_row)))
    ids = torch.randint(0, shape.vocabulary, (rows, length))
    optimiser = torch.optim.AdamW(model.parameters())

    def passes() -> None:
        optimiser.zero_grad()
        logits = model(input_ids=ids, use_cache=False).logits
        torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"
        ).backward()

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    left, right = (
        torch.randn(per_step * length, shape.hidden, dtype=dtype),
        torch.randn(shape.hidden, shape.intermediate, dtype=dtype),
    )
    gemm = 2.0 * per_step * length * shape.hidden * shape.intermediate / _timed(lambda: left @ right)
    square = torch.randn(512, 512, dtype=torch.float64)
    double = 2.0 * 512**3 / _timed(lambda: square @ square)
    training = per_step * flops_of_row / (_timed(passes, 3) * per_step / rows + _timed(update, 3))
    latency = _decoding_step(model) / layers * shape.layers
    flops = {name: gemm * BYTES[costs.recipe.model.dtype] / size for name, size in BYTES.items()} | {"float64": double}
    return Device(
        "cpu",
        float(psutil.virtual_memory().total),
        flops,
        bandwidth=1e10,
        link=1e9,
        disk=5e8,
        efficiency=training / gemm,
        latency=latency,
        python=_timed(_interpreted) / REFERENCE_PYTHON_S,
        measured=True,
    )


def _random_model(s: Shape, dtype: Any) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=s.vocabulary,
        hidden_size=s.hidden,
        intermediate_size=s.intermediate,
        num_hidden_layers=s.layers,
        num_attention_heads=s.heads,
        num_key_value_heads=s.kv_heads,
        tie_word_embeddings=s.tied,
    )
    return Qwen2ForCausalLM(config).to(dtype)


def _decoding_step(model: Any) -> float:
    import torch
    from transformers.cache_utils import DynamicCache

    cache = DynamicCache(config=model.config)
    ids = torch.zeros(1, 1, dtype=torch.long)

    @torch.inference_mode()
    def one() -> None:
        model(input_ids=ids, past_key_values=cache, use_cache=True)

    return _timed(one, 20)


def _interpreted() -> None:
    """A little of what the host's stages do: texts, dictionaries, sorting, JSON."""
    rows = [(i * 7919 % 104_729, {"id": str(i), "text": f"record {i} " * 5}) for i in range(10_000)]
    rows.sort(key=lambda row: row[0])
    json.loads(json.dumps(rows))
    sum(len(row["text"].split()) for _, row in rows)


def _timed(work: Callable[[], object], repeats: int = 5) -> float:
    """Median seconds of a call, after one to warm up: processor time where one thread works, since others may share the
    machine, else time on the clock. Fewer calls where they take long: three seconds are enough."""
    import torch

    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    work()
    found: list[float] = []
    while len(found) < repeats and sum(found) < ENOUGH_S:
        start = clock()
        work()
        found.append(clock() - start)
    return max(median(found), 1e-9)
