"""From scores to a model trained elsewhere: TRL's own trainer takes the kept file and its control as they are written.

Needs an environment with trl 1.16 over this project's own packages, whose interpreter INFRA_TRAINERS_PYTHON names::

    INFRA_TRAINERS_PYTHON=/path/to/python pytest -m parity tests/experiments/selection/test_round_trip.py
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.data import tokenize
from infra.data.reading import read_records
from infra.experiments.selection import SelectSettings, select_records, write_selection
from infra.models import load_tokenizer
from infra.world import BASE_MODEL, build_world

from .scored_run import scored_run

TRL_TRAIN = """
import json, sys
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer
file, model, out = sys.argv[1:]
rows = load_dataset("json", data_files=file, split="train", cache_dir=out + "/cache")
settings = SFTConfig(output_dir=out, num_train_epochs=2, per_device_train_batch_size=4, max_length=None, use_cpu=True,
                     bf16=False, report_to=[], save_strategy="no", learning_rate=1e-3, logging_steps=1, seed=0)
trainer = SFTTrainer(model=model, args=settings, train_dataset=rows)
trainer.train()
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
print(json.dumps({"losses": losses, "input_ids": [row["input_ids"] for row in trainer.train_dataset]}))
"""


def trained(file: Path, out: Path) -> dict[str, Any]:
    """What TRL's trainer says of two epochs on a file."""
    python = os.environ["INFRA_TRAINERS_PYTHON"]
    command = [python, "-c", TRL_TRAIN, str(file), str(BASE_MODEL), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parity
@pytest.mark.skipif("INFRA_TRAINERS_PYTHON" not in os.environ, reason="INFRA_TRAINERS_PYTHON names no interpreter")
def test_trl_trains_on_what_is_kept_and_on_its_control(tmp_path: Path) -> None:
    """The file is the user's own, with fields that no trainer knows; TRL sees the very tokens that Infra scored."""
    world = [r for r in build_world().train if r.domain == "math"][:16]
    lines = [
        {
            "id": f"mine-{i}",
            "messages": [{"role": m.role, "content": m.content} for m in r.messages],
            "notes": {"read": [i, None], "by": "me"},
        }
        for i, r in enumerate(world)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = scored_run(tmp_path / "run", [{"path": tmp_path / "train.jsonl"}], lambda r: float(r.id.partition("-")[2]))
    selected = select_records(run, SelectSettings(keep=0.5, control="length"))
    files = write_selection(run, selected, tmp_path / "selected")
    for name, file in (("kept", files.kept[0]), ("control", files.control[0])):
        found = trained(file, tmp_path / name)
        assert len(found["losses"]) == 4 and found["losses"][-1] < found["losses"][0]
        examples = tokenize(read_records(file).records, load_tokenizer(str(BASE_MODEL)), max_length=None).examples
        assert found["input_ids"] == [e.input_ids.tolist() for e in examples]
    assert [line["id"] for line in map(json.loads, files.kept[0].open())] == [f"mine-{i}" for i in range(8, 16)]
