"""kronfluence's side of ``bench.engine`` and ``bench.real``, run by the interpreter of an environment that has it.

float32, the same rows, masks and loss as ours, per-sequence eigenvalues, sampled labels; the loss is written as in its
language-model examples; batches hold as many tokens as ours. For 100 queries it compresses the query gradients to the
same rank as ours (``query_gradient_low_rank``, its documented way to many queries). Factors and scores are written to
disk, which the library always does.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from kronfluence.utils.dataset import DataLoaderKwargs
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM

from worker_loop import serve, split


class Rows(Dataset):
    """Rows, the longest first: ids, the positions under the loss, and those that a loss flows through."""

    def __init__(self, ids, loss):
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        self.ids, self.loss = ([torch.from_numpy(rows[i]) for i in order] for rows in (ids, loss))

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        counted = torch.ones_like(self.ids[i])
        counted[-1] = 0  # no loss flows through the last position
        return {"input_ids": self.ids[i], "loss": self.loss[i], "attention_mask": counted}


def padded(rows, length=None):
    """A batch padded to its own longest row, or to ``length``: token scores need rows of one length."""
    longest = length or max(len(row["input_ids"]) for row in rows)
    return {key: torch.stack([F.pad(row[key], (0, longest - len(row[key]))) for row in rows]) for key in rows[0]}


class Loss(Task):
    """Summed response loss."""

    def compute_train_loss(self, batch, model, sample=False):
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits[:, :-1].float().flatten(0, 1)
        labels, wanted = batch["input_ids"][:, 1:].flatten(), batch["loss"][:, 1:].flatten()
        if sample:
            with torch.no_grad():
                labels = torch.multinomial(logits.detach().softmax(-1), 1)[:, 0]
        return F.cross_entropy(logits, labels.masked_fill(~wanted, -100), reduction="sum")

    def compute_measurement(self, batch, model):
        return self.compute_train_loss(batch, model)

    def get_influence_tracked_modules(self):
        return self.names

    def get_attention_mask(self, batch):
        return batch["attention_mask"]


def main(folder, threads, rank, precision, tokens):
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    data = np.load(folder / "data.npz")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    task = Loss()
    task.names = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and ".mlp." in n]
    model = prepare_model(model, task)
    analyzer = Analyzer("bench", model, task, cpu=True, output_dir=str(folder / "work"), disable_tqdm=True)
    train, queries = (Rows(split(data, k, "ids"), split(data, k, "loss")) for k in ("train", "query"))
    longest = int(max(data["train_lengths"].max(), data["query_lengths"].max()))
    size = max(1, tokens // longest)

    def fit():
        arguments = FactorArguments(strategy="ekfac", use_empirical_fisher=False)
        analyzer.fit_all_factors(
            "f",
            train,
            per_device_batch_size=size,
            factor_args=arguments,
            dataloader_kwargs=DataLoaderKwargs(collate_fn=padded),
            overwrite_output_dir=True,
        )

    def scores(chosen, at_once, rank=None):
        arguments = ScoreArguments(
            damping_factor=None,
            compute_per_token_scores=True,
            query_gradient_low_rank=rank,
            query_gradient_accumulation_steps=-(-len(chosen) // at_once),
        )
        analyzer.compute_pairwise_scores(
            "s",
            "f",
            chosen,
            train,
            per_device_query_batch_size=at_once,
            per_device_train_batch_size=size,
            score_args=arguments,
            dataloader_kwargs=DataLoaderKwargs(collate_fn=partial(padded, length=longest)),
            overwrite_output_dir=True,
        )

    one, two = (torch.utils.data.Subset(queries, list(range(n))) for n in (1, 2))
    jobs = {
        "fit": fit,
        "token_scores": lambda: scores(one, 1),
        "two_targets": lambda: scores(two, 2),
        "queries": lambda: scores(queries, 10, rank),
    }
    serve(jobs)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
