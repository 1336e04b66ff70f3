"""Two processes train the same model as one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sft_examples import make_examples

from infra.models import load_model
from infra.sft import SFTConfig, fine_tune

CONFIG = SFTConfig(learning_rate=5e-3, epochs=2.0, batch_size=5, max_tokens_per_microbatch=20, dtype="float64")


@pytest.mark.slow
@pytest.mark.parametrize("packing", [False, True])
def test_two_processes_agree_with_one(packing: bool, base: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, packing=packing)
    one = fine_tune(base, make_examples(13), tmp_path / "one", config, seed=0)
    script = tmp_path / "run.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from sft_examples import make_examples\nfrom infra.sft import SFTConfig, fine_tune\n"
        f"fine_tune({str(base)!r}, make_examples(13), {str(tmp_path / 'two')!r}, {config!r}, seed=0)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29641", str(script)]
    subprocess.run(command, check=True, timeout=200)
    a, b = (torch.cat([p.detach().flatten() for p in load_model(tmp_path / n)[0].parameters()]) for n in ("one", "two"))
    assert float((a - b).norm() / a.norm()) < 1e-10
    again = fine_tune(base, make_examples(13), tmp_path / "two", config, seed=0)
    np.testing.assert_allclose(again.losses, one.losses, rtol=1e-12)
