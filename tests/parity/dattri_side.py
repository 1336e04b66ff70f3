"""The other side of a comparison with dattri-llm, run by the interpreter of an environment of its own.

    python dattri_side.py FOLDER     FOLDER holds model/ and data.npz; results.npz is written into it

Empirical Fisher, summed losses, damping 0.1 of the mean, float64, one sequence at a time so that nothing is padded.
"""

import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from dattri_llm import AttributionArguments, AttributionTask, EKFACAttributor, HookManagerConfig
from float64 import Float64
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM


class Rows(Dataset):
    """Sequences without their padding."""

    def __init__(self, data, kind):
        self.rows = [
            {"input_ids": torch.from_numpy(ids[:n]), "labels": torch.from_numpy(labels[:n])}
            for ids, labels, n in zip(data[f"{kind}_ids"], data[f"{kind}_labels"], data[f"{kind}_lengths"])
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


class Recording(EKFACAttributor):
    """Keeps the eigenvectors it fits."""

    bases: ClassVar[dict] = {}

    def damp(self, raw_factors, damping):
        for layer, (inputs, outputs, _) in raw_factors.items():
            self.bases[layer] = (inputs, outputs)
        return super().damp(raw_factors, damping)


def summed_loss(model, batch):
    """Summed response loss."""
    logits = model(input_ids=batch["input_ids"], use_cache=False).logits[:, :-1].flatten(0, 1)
    return F.cross_entropy(logits, batch["labels"][:, 1:].flatten(), ignore_index=-100, reduction="sum")


def main(folder):
    data = np.load(folder / "data.npz")
    model = AutoModelForCausalLM.from_pretrained(
        folder / "model", dtype=torch.float64, attn_implementation="eager"
    ).eval()
    modules = [str(n) for n in data["modules"]]
    train, queries = Rows(data, "train"), Rows(data, "query")
    arguments = AttributionArguments(
        output_dir=str(folder / "out"), per_device_train_batch_size=1, per_device_eval_batch_size=1, use_cpu=True
    )
    results = {}
    with Float64():
        for granularity in ("instance", "token"):
            attributor = Recording(arguments, task=AttributionTask(summed_loss, model))
            score = attributor.attribute(
                train,
                queries,
                hook_config=HookManagerConfig(hook_types=dict.fromkeys(modules, "linear_io")),
                damping=0.1,
                relative_damping=True,
                attribution_granularity=granularity,
            )
            if granularity == "instance":
                results["examples"] = score.agnostic_matrix()[1].numpy().T
                continue
            tokens = np.zeros((len(queries), len(train), data["train_ids"].shape[1]))
            for i, name in enumerate(score.train_ids):
                positions, matrix = score.token_scores(name)
                tokens[:, i, positions] = matrix.numpy().T
            results["tokens"] = tokens
    for module in modules:
        inputs, outputs = Recording.bases[module]
        results[f"inputs:{module}"], results[f"outputs:{module}"] = inputs.numpy(), outputs.numpy()
    np.savez(folder / "results.npz", **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
