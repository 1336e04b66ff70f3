"""The other side of a comparison with kronfluence, run by the interpreter of an environment of its own.

    python kronfluence_side.py FOLDER     FOLDER holds model/ and data.npz; results.npz is written into it

Losses are summed over response tokens; the attention mask handed to the library leaves out positions that no
response loss flows through, damping is 0.1 of the mean, everything is float64.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from float64 import Float64
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM


class Rows(Dataset):
    """Rows padded on the right: ids, labels (-100 where there is no loss) and the positions that count."""

    def __init__(self, ids, labels, counted):
        self.rows = list(zip(*(torch.from_numpy(a) for a in (ids, labels, counted))))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        ids, labels, counted = self.rows[i]
        return {"input_ids": ids, "labels": labels, "attention_mask": counted}


class Loss(Task):
    """Summed response loss, for training examples and queries alike."""

    def __init__(self, names):
        self.names = names

    def compute_train_loss(self, batch, model, sample=False):
        assert not sample, "the comparison uses the empirical Fisher matrix"
        with Float64():
            logits = model(input_ids=batch["input_ids"], use_cache=False).logits[:, :-1]
            log_p = logits.log_softmax(-1)
        labels = batch["labels"][:, 1:]
        picked = log_p.gather(2, labels.clamp_min(0)[..., None])[..., 0]
        return -(picked * (labels >= 0)).sum()

    def compute_measurement(self, batch, model):
        return self.compute_train_loss(batch, model)

    def get_influence_tracked_modules(self):
        return self.names

    def get_attention_mask(self, batch):
        return batch["attention_mask"]


def main(folder):
    data = np.load(folder / "data.npz")
    model = AutoModelForCausalLM.from_pretrained(
        folder / "model", dtype=torch.float64, attn_implementation="eager"
    ).eval()
    names = [str(n) for n in data["modules"]]
    model = prepare_model(model, task := Loss(names))
    train = Rows(data["train_ids"], data["train_labels"], data["train_counted"])
    queries = Rows(data["query_ids"], data["query_labels"], data["query_counted"])
    analyzer = Analyzer("parity", model, task, cpu=True, output_dir=str(folder / "work"), disable_tqdm=True)
    wide = torch.float64
    factors = FactorArguments(
        strategy="ekfac",
        use_empirical_fisher=True,
        amp_dtype=None,
        activation_covariance_dtype=wide,
        gradient_covariance_dtype=wide,
        per_sample_gradient_dtype=wide,
        lambda_dtype=wide,
        eigendecomposition_dtype=wide,
    )
    analyzer.fit_all_factors("f", train, per_device_batch_size=2, factor_args=factors, overwrite_output_dir=True)
    results = {}
    for tokens in (False, True):
        scores = ScoreArguments(
            damping_factor=None,
            amp_dtype=None,
            compute_per_token_scores=tokens,
            score_dtype=wide,
            per_sample_gradient_dtype=wide,
            precondition_dtype=wide,
        )
        analyzer.compute_pairwise_scores(
            f"s{tokens}",
            "f",
            queries,
            train,
            per_device_query_batch_size=len(queries),
            per_device_train_batch_size=2,
            score_args=scores,
            overwrite_output_dir=True,
        )
        found = analyzer.load_pairwise_scores(f"s{tokens}")["all_modules"]
        results["tokens" if tokens else "examples"] = found.double().numpy()
    vectors = analyzer.load_eigendecomposition("f")
    for name in names:
        results[f"inputs:{name}"] = vectors["activation_eigenvectors"][name].double().numpy()
        results[f"outputs:{name}"] = vectors["gradient_eigenvectors"][name].double().numpy()
    np.savez(folder / "results.npz", **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
