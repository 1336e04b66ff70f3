"""Select data by influence and train on it: keep the better half of a file and fine-tune with TRL, if it is installed.

pip install trl
python examples/select_and_train.py
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from _world import small_world, tokens
from infra.data import write_records
from infra.experiments.selection import select
from infra.influence import Damping, MeanLogLikelihood, example_influence, fit_ekfac, gradient
from infra.models import tracked_weights

KEPT = 0.5


def main(out: Path = Path("selected.jsonl")) -> list[str]:
    """Write the half of the training data that helps math and code most, and return the ids that were kept."""
    model, tokenizer, train, correct = small_world()
    names = ["math", "code"]
    targets = [MeanLogLikelihood(n, tokens([r for r in correct if r.domain == n], tokenizer)) for n in names]
    tracked = tracked_weights(model, "mlp")
    examples = tokens(train, tokenizer)
    inverse = fit_ekfac(model, examples, tracked).inverse(Damping(0.1))
    scores = example_influence(model, examples, [inverse @ gradient(model, t, tracked) for t in targets])
    chosen = set(select([e.id for e in examples], np.asarray(scores), names, round(KEPT * len(examples))).ids)
    kept = [r for r in train if r.id in chosen]
    write_records(kept, out)  # messages, as `datasets`, TRL and LLaMA-Factory read them
    print(f"{out}: {len(kept)} of {len(train)} examples")
    if importlib.util.find_spec("trl"):
        fine_tune(model, tokenizer, out)
    return [r.id for r in kept]


def fine_tune(model: object, tokenizer: object, file: Path) -> None:
    """One step of TRL's own trainer on the file."""
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    data = load_dataset("json", data_files=str(file), split="train").select_columns(["messages"])
    settings = SFTConfig("selected-model", max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True)
    SFTTrainer(model, settings, train_dataset=data, processing_class=tokenizer).train()


if __name__ == "__main__":
    main()
