"""Select data by influence and train on it: score a file, keep its better half, fine-tune with TRL if it is installed.

The same on the command line: `infra score`, then `infra select RUN --keep 0.5 --balance --control length`.

pip install trl
python examples/select_and_train.py
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from _world import MAX_LENGTH, small_world
from infra.data import Record
from infra.experiments.selection import SelectionFiles, SelectSettings, select_records, write_selection
from infra.pipeline.score import run_score, score_recipe
from infra.world import BASE_MODEL


def main(out: Path = Path("selection")) -> SelectionFiles:
    """Write the half of the training data that helps math and code most, and a control of as many tokens."""
    _, _, train, correct = small_world()
    data, queries = write(train, out / "train.jsonl"), write(correct, out / "queries.jsonl")
    recipe = score_recipe(
        str(data),
        str(queries),
        data={"max_length": MAX_LENGTH},
        model={"base": str(BASE_MODEL)},
        targets={"folds": 2, "minimum": 2},
    )
    run_score(recipe, out / "run", None)
    chosen = select_records(out / "run", SelectSettings(keep=0.5, balance=True, control="length"))
    files = write_selection(out / "run", chosen, out / "selected")
    for name, file in (("kept", files.kept[0]), ("control", files.control[0])):
        size = chosen.manifest[name]
        print(f"{name}: {file}: {size['records']} records, {size['response_tokens']} response tokens")
        if importlib.util.find_spec("trl"):
            fine_tune(file, out / name)
    return files


def write(records: list[Record], file: Path) -> Path:
    """The records as a user's file of messages."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": r.id, "messages": [{"role": m.role, "content": m.content} for m in r.messages], "domain": r.domain}
        for r in records
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def fine_tune(file: Path, out: Path) -> None:
    """One step of TRL's own trainer on the file."""
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    data = load_dataset("json", data_files=str(file), split="train")
    settings = SFTConfig(str(out), max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True)
    SFTTrainer(str(BASE_MODEL), settings, train_dataset=data).train()


if __name__ == "__main__":
    main()
