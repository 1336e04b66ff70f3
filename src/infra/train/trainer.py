"""A small subclass of transformers' Trainer: one item of the data set is one optimiser step.

The step's microbatches are run one by one and their summed losses divided by the run's constant normaliser,
so the gradient of a step does not depend on how it is cut into microbatches or shared among processes, and a
subset's loss is a part of the whole's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState, PrinterCallback, ProgressCallback

from infra.errors import ModelError
from infra.models.memory import is_memory
from infra.models.precision import exact_in
from infra.progress import say
from infra.store import replacing
from infra.train.batches import Microbatch, StepDataset, cut_up, to_device
from infra.train.config import SFTConfig
from infra.train.loss import microbatch_loss
from infra.train.plan import learning_rate_factor


class SummedLossTrainer(Trainer):
    """Trainer over :class:`~infra.train.batches.StepDataset`. ``losses`` collects each step's loss."""

    def __init__(
        self,
        *,
        config: SFTConfig,
        normaliser: float,
        metrics: Callable[[dict[str, float]], object] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.config, self.normaliser, self.metrics = config, normaliser, metrics
        self._last = time.monotonic()
        self._tokens, self._pieces = 0, 1
        self.losses: list[float] = []
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)

    def get_train_dataloader(self) -> DataLoader:
        """Steps in order. Every process sees every step and takes its share of the microbatches."""
        data = self.train_dataset
        assert isinstance(data, StepDataset)
        return DataLoader(data, batch_size=1, sampler=SequentialSampler(data), collate_fn=_only)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The plan's learning rates, whatever transformers' own would be."""
        c = self.config

        def factor(step: int) -> float:
            return learning_rate_factor(step, num_training_steps, c.warmup_ratio, c.schedule)

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factor)  # type: ignore[arg-type]
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """All forward and backward passes of one optimiser step; returns its loss.

        A step that runs out of memory is begun again with microbatches half as large, down to one example each, and
        so are the steps after it. With several processes it ends the run: the others could not be told.
        """
        model.train()
        self._tokens += sum(b.n_tokens for b in inputs["microbatches"])
        while True:
            batches = [piece for b in inputs["microbatches"] for piece in cut_up(b, self._pieces)]
            try:
                return self._passes(model, batches)
            except (MemoryError, RuntimeError) as error:
                smaller = sum(len(cut_up(b, 2 * self._pieces)) for b in inputs["microbatches"])
                if not is_memory(error) or self.args.world_size > 1 or smaller == len(batches):
                    raise
            model.zero_grad(set_to_none=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._pieces *= 2
            say(f"out of memory in step {self.state.global_step}: going on with microbatches half as large")

    def _passes(self, model: Any, batches: list[Microbatch]) -> Tensor:
        """The passes of one step over these microbatches."""
        world = self.args.world_size
        mine = share(batches, self.args.process_index, world)
        total = torch.zeros((), dtype=torch.float64, device=self.args.device)
        for i, microbatch in enumerate(mine):
            batch = to_device(microbatch, self.args.device)
            last = i == len(mine) - 1
            synced = contextlib.nullcontext() if last else self.accelerator.no_sync(model)
            # float64 models must not be rounded to float32 inside norms and rotary angles
            with synced, self.compute_loss_context_manager(), exact_in(next(model.parameters()).dtype):
                loss = microbatch_loss(model, batch) / self.normaliser
                if not torch.isfinite(loss):
                    raise ModelError(
                        f"step {self.state.global_step}: the loss is not finite (records {', '.join(batch.ids[:5])}); "
                        "lower learning_rate, or use dtype float32"
                    )
                self.accelerator.backward(loss * world)
            total += loss.detach()
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if world > 1:
            total = self.accelerator.reduce(total, reduction="sum")
        self.losses.append(float(total))
        return total.to(torch.float32)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The step's numbers go to ``metrics`` and to the integrations of ``report_to``; nothing is printed or kept."""
        if "loss" not in logs or not self.losses:
            return
        now = time.monotonic()
        told: dict[str, Any] = {
            "step": self.state.global_step,
            "loss": self.losses[-1],
            **{name: float(logs[name]) for name in ("learning_rate", "grad_norm") if name in logs},
            "tokens_per_second": self._tokens / max(now - self._last, 1e-9),
        }
        self._last, self._tokens = now, 0
        if self.metrics is not None and self.state.is_world_process_zero:
            self.metrics(told)
        if self.args.report_to:
            self.control = self.callback_handler.on_log(self.args, self.state, self.control, told)


class Recorder(TrainerCallback, ExportableState):
    """Tells progress, keeps the losses inside checkpoints, records weights and moments for unrolled
    attribution."""

    def __init__(self, folder: Path, record_every: int, advance: Callable[[int], object] | None) -> None:
        self.folder, self.record_every, self.advance = folder, record_every, advance
        self.trainer: SummedLossTrainer | None = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint's trainer_state.json keeps: the losses so far."""
        return {"args": {}, "attributes": {"losses": list(self.trainer.losses) if self.trainer else []}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.record_every and state.global_step == 0 and state.is_world_process_zero:
            self._record(0, kwargs["model"], kwargs["optimizer"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.advance is not None:
            self.advance(1)
        if self.record_every and state.global_step % self.record_every == 0 and state.is_world_process_zero:
            self._record(state.global_step, kwargs["model"], kwargs["optimizer"])

    def _record(self, step: int, model: Any, optimizer: Any) -> None:
        from safetensors.torch import save_file

        names = {id(p): n for n, p in model.named_parameters()}
        tensors = {f"param/{n}": p.detach().to("cpu").clone() for n, p in model.named_parameters()}
        for parameter, moments in optimizer.state.items():
            for key in ("exp_avg", "exp_avg_sq"):
                if key in moments:
                    tensors[f"{key}/{names[id(parameter)]}"] = moments[key].detach().to("cpu").clone()
        with replacing(self.folder / f"step-{step:06d}.safetensors") as part:
            save_file(tensors, str(part))


def share(batches: list[Microbatch], rank: int, world: int) -> list[Microbatch]:
    """This process's microbatches: every ``world``-th. All processes get equally many, or their collectives
    would hang; the shortfall is made up by repeats of weight 0."""
    mine = batches[rank::world]
    rounds = -(-len(batches) // world)
    if len(mine) < rounds:
        spare = batches[0]
        mine = [*mine, Microbatch(spare.inputs, torch.zeros_like(spare.weights), spare.ids, spare.packed, 0)]
    return mine


def _only(items: list[dict[str, Any]]) -> dict[str, Any]:
    return items[0]
