"""Two processes train the same model as one, data parallel or with its layers sharded."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sft_examples import make_examples
from tests.parallel.processes import together

from infra.models import load_model
from infra.train import SFTConfig, fine_tune

CONFIG = SFTConfig(learning_rate=5e-3, epochs=2.0, batch_size=5, max_tokens_per_microbatch=20, dtype="float64")


@pytest.mark.slow
@pytest.mark.parametrize("packing", [False, True])
def test_two_processes_agree_with_one(packing: bool, base: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, packing=packing)
    one = fine_tune(base, make_examples(13), tmp_path / "one", config, seed=0)
    script = tmp_path / "run.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from sft_examples import make_examples\nfrom infra.train import SFTConfig, fine_tune\n"
        f"fine_tune({str(base)!r}, make_examples(13), {str(tmp_path / 'two')!r}, {config!r}, seed=0)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29641", str(script)]
    subprocess.run(command, check=True, timeout=200)
    a, b = (torch.cat([p.detach().flatten() for p in load_model(tmp_path / n)[0].parameters()]) for n in ("one", "two"))
    assert float((a - b).norm() / a.norm()) < 1e-10
    again = fine_tune(base, make_examples(13), tmp_path / "two", config, seed=0)
    np.testing.assert_allclose(again.losses, one.losses, rtol=1e-12)


def train_sharded(base: Path, out: Path, seen: Path) -> None:
    """SFT as under ``accelerate launch --use_fsdp --fsdp_version 2``, but on CPUs, for which accelerate has no FSDP: it
    is told that they are GPUs, and finds gloo and the CPU wherever it looks closer."""
    os.environ.update(
        ACCELERATE_USE_FSDP="true",
        FSDP_VERSION="2",
        FSDP_AUTO_WRAP_POLICY="TRANSFORMER_BASED_WRAP",
        FSDP_RESHARD_AFTER_FORWARD="true",
        FSDP_STATE_DICT_TYPE="FULL_STATE_DICT",
    )
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    from infra.train import run

    began, save = PartialState.__init__, run._save

    def begin(self: PartialState, *args: object, **kwargs: object) -> None:
        began(self, *args, **kwargs)
        self._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    def note(trainer: object, *rest: object) -> None:
        layer = next(trainer.accelerator.unwrap_model(trainer.model).model.layers[0].parameters())  # type: ignore
        (seen / os.environ["RANK"]).write_text(f"{tuple(layer.to_local().shape)} of {tuple(layer.shape)}")
        save(trainer, *rest)

    PartialState.__init__, run._save = begin, note
    fine_tune(base, make_examples(13), out, replace(CONFIG, device="cpu"), seed=0)


@pytest.mark.slow
def test_layers_sharded_by_fsdp2_train_to_the_same_weights(base: Path, tmp_path: Path) -> None:
    one = fine_tune(base, make_examples(13), tmp_path / "one", replace(CONFIG, device="cpu"), seed=0)
    together(2, train_sharded, base, tmp_path / "two", tmp_path)
    assert {(tmp_path / rank).read_text() for rank in "01"} == {"(8, 16) of (16, 16)"}
    a, b = (torch.cat([p.detach().flatten() for p in load_model(tmp_path / n)[0].parameters()]) for n in ("one", "two"))
    assert float((a - b).norm() / a.norm()) < 1e-10
    again = fine_tune(base, make_examples(13), tmp_path / "two", replace(CONFIG, device="cpu"), seed=0)
    np.testing.assert_allclose(again.losses, one.losses, rtol=1e-12)
