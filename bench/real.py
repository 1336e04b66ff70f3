"""The whole of an attribution on a real model, real text of different lengths, beside the libraries people use.

    python -m bench.real --data shared/data                     64 records, 40 queries, every group
    python -m bench.real --data shared/data --only fit,scores   some groups: fit, scores, precision, sft, generate,
                                                                growth, command
    python -m bench.real --data shared/data --records 8 --queries 4 --repeats 1 --model FOLDER     to see that it runs

``--data`` holds gsm8k_train.jsonl and mbpp.jsonl in their public schemas. Opponents run in environments of their own,
named by INFRA_KRONFLUENCE_PYTHON and INFRA_BERGSON_PYTHON; without one its keys are null and listed under ``lost``.
They get float32 and their own batches (``*_vs_*``), or the same batches and the same precision of products as ours
(``*_same_switch``). The last line is one JSON object. Keys (must, aim):

    fit_vs_kronfluence, fit_vs_bergson                          3, 5     same switch: 2, 3
    token_scores_vs_kronfluence, token_scores_vs_bergson        3, 6     two targets; kronfluence padded to one length
    end_to_end_vs_kronfluence, end_to_end_vs_bergson            3, 5     fit and token scores
    rank_agreement_examples, rank_agreement_tokens              0.999, 0.99 of the chosen precision with float32
    sft_vs_transformers_float32, sft_vs_transformers_bfloat16   3, 4; 1.3, 1.7   tokens a second
    generate_vs_transformers_bfloat16                           2, 5     tokens a second, the same batch
    peak_gib                                                    5, 4     of this process in fit and scores
    score_minutes                                               12, 6    `infra score`, 200 records, 40 queries
    cost_per_token_growth                                       1.05, 1.0   scores of 64 records against 512
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.opponents import Opponent
from bench.timing import Times, alternate
from scipy.stats import spearmanr

from infra.data import Record, TokenizedExample, read_records, tokenize
from infra.influence import (
    Curvature,
    Damping,
    Direction,
    MeanLogLikelihood,
    example_influence,
    fit_ekfac,
    gradient,
    token_influence,
)
from infra.influence.engine.batches import batches
from infra.models import load_model, model_folder, tracked_weights
from infra.models.precision import product_gain, products_in
from infra.train import SFTConfig, fine_tune

Found = dict[str, Any]
SOURCES = {"math": "gsm8k_train.jsonl", "code": "mbpp.jsonl"}


class Bench:
    """A model, its data and how it is measured."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder = model_folder(options.model)
        self.model, self.tokenizer = load_model(self.folder, device=options.device)
        self.tracked = tracked_weights(self.model, "mlp")
        self.gain = product_gain(options.device)
        self.precision = options.precision or ("fast" if self.gain > 1.2 else "float32")
        self.train = self.examples(options.records)
        self.queries = self.examples(options.queries, skip=2000)

    def examples(self, n: int, skip: int = 0) -> list[TokenizedExample]:
        """``n`` records, half of each domain, of whatever lengths they have."""
        found = []
        for domain in SOURCES:
            found += tokenize(self.records(domain, n // 2, skip), self.tokenizer, max_length=2048).examples
        return found

    def records(self, domain: str, n: int, skip: int = 0) -> list[Record]:
        """``n`` records of a domain behind the first ``skip`` (of code, which has fewer, a quarter of that)."""
        limit = n + (skip if domain == "math" else skip // 4)
        path = Path(self.options.data) / SOURCES[domain]
        return list(read_records(path, domain=domain, limit=limit).records[-n:])

    def fit(self, precision: str) -> Curvature:
        with products_in(precision, self.options.device):
            return fit_ekfac(self.model, self.train, self.tracked, max_tokens=self.options.tokens, model_hash="")

    def directions(self, curvature: Curvature, precision: str) -> list[Direction]:
        """One for each domain's queries."""
        half = len(self.queries) // 2
        with products_in(precision, self.options.device):
            targets = [MeanLogLikelihood(d, self.queries[i * half :][:half]) for i, d in enumerate(SOURCES)]
            grads = [gradient(self.model, t, self.tracked, self.options.tokens) for t in targets]
            return curvature.inverse(Damping(0.1)).apply(grads)

    def tokens(self, given: Sequence[Direction], precision: str, form: Any, examples: Any = None) -> list[Any]:
        """Token scores ``[K, T]`` of every example, in order."""
        chosen, most = self.train if examples is None else examples, self.options.tokens
        found: dict[int, Any] = {}
        with products_in(precision, self.options.device):
            for chunk in token_influence(self.model, chosen, given, decomposition=form, max_tokens=most):
                found |= dict(zip(chunk.indices, chunk.scores))
        return [found[i] for i in range(len(chosen))]

    def opponent(self, name: str, same: bool) -> Opponent | None:
        """A worker with its own settings, or with ours; None where there is no environment for it."""
        python = os.environ.get(f"INFRA_{name.upper()}_PYTHON")
        if not python:
            return None
        precision = "medium" if same and self.precision == "fast" else "highest"
        batch = self.options.tokens if same else 8192
        o = self.options
        return Opponent(name, python, self.model, self.train, self.queries, o.threads, 32, precision, batch)


def fit(bench: Bench) -> Found:
    """The fit and the token scores of two targets, beside each library in turns."""
    found: Found = {"keys": {}, "seconds": {}, "lost": []}
    for name in ("kronfluence", "bergson"):
        for same in (False, True):
            suffix = "_same_switch" if same else ""
            keys = [f"{what}_vs_{name}{suffix}" for what in ("fit", "token_scores", "end_to_end")]
            other = bench.opponent(name, same)
            if other is None:
                found["keys"] |= dict.fromkeys(keys)
                found["lost"].append(f"{name}: INFRA_{name.upper()}_PYTHON is not set")
                continue
            if same and bench.precision == "float32" and bench.options.tokens == 8192:
                continue  # the same settings as before
            with other:
                times = beside(bench, other)
                ratios = [times[f"their {w}"] / times[f"our {w}"] for w in ("fit", "scores")]
                whole = [times[f"{who} fit"] + times[f"{who} scores"] for who in ("their", "our")]
                found["keys"] |= dict(zip(keys, [*ratios, whole[0] / whole[1]]))
                found["seconds"][f"{name}{suffix}"] = {**times.seconds, "others": times.others}
                found[f"peak_gib_of_{name}{suffix}"] = other.peak / 2**30
                found["lost"] += list(dict.fromkeys(other.lost))
    return found


def beside(bench: Bench, other: Opponent) -> Times:
    """Fits and token scores of both sides, alternating."""
    fitted: dict[str, Curvature] = {}
    fits = alternate(
        {"our fit": lambda: fitted.update(c=bench.fit(bench.precision)), "their fit": lambda: other.run("fit")},
        bench.options.repeats,
        warm_up=False,
    )
    given = bench.directions(fitted["c"], bench.precision)
    scores = alternate(
        {
            "our scores": lambda: bench.tokens(given, bench.precision, "position") and None,
            "their scores": lambda: other.run("two_targets"),
        },
        bench.options.repeats,
        warm_up=False,
    )
    others = max(filter(None, (fits.others, scores.others)), default=None)
    return Times({**fits.seconds, **scores.seconds}, {**fits.cpu, **scores.cpu}, others)


def scores(bench: Bench) -> Found:
    """Our stages by themselves: seconds, share of system time, and the most memory they have had."""
    seconds: dict[str, float] = {}
    before = os.times()

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        value = work()
        seconds[name] = time.perf_counter() - start
        return value

    curvature = timed("fit", lambda: bench.fit(bench.precision))
    given = timed("directions", lambda: bench.directions(curvature, bench.precision))
    timed("token scores, loss", lambda: bench.tokens(given, bench.precision, "loss"))
    timed("token scores, position", lambda: bench.tokens(given, bench.precision, "position"))
    after = os.times()
    system, user = after.system - before.system, after.user - before.user
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"keys": {"peak_gib": peak}, "seconds": seconds, "system_share": system / (system + user)}


def precision(bench: Bench) -> Found:
    """Whether the precision that is chosen here ranks examples and tokens as float32 does, curvature included."""
    both = []
    for name in ("float32", bench.precision):
        given = bench.directions(bench.fit(name), name)
        with products_in(name, bench.options.device):
            examples = example_influence(bench.model, bench.train, given, max_tokens=bench.options.tokens)
        both.append((examples, np.concatenate(bench.tokens(given, name, "loss"), axis=1)))
    (plain, plain_tokens), (chosen, chosen_tokens) = both
    keys = {
        "rank_agreement_examples": min(float(spearmanr(a, b).statistic) for a, b in zip(plain.T, chosen.T)),
        "rank_agreement_tokens": min(float(spearmanr(a, b).statistic) for a, b in zip(plain_tokens, chosen_tokens)),
    }
    return {"keys": keys, "precision": bench.precision, "product_gain": bench.gain}


def sft(bench: Bench) -> Found:
    """Our fine-tuning beside a plain loop over transformers, in tokens a second."""
    tokens = sum(map(len, bench.train))
    losses: dict[str, list[float]] = {}

    def ours() -> None:
        config = SFTConfig(learning_rate=1e-5, epochs=1.0, batch_size=8, max_tokens_per_microbatch=bench.options.tokens)
        with tempfile.TemporaryDirectory() as folder, products_in(bench.precision, bench.options.device):
            losses["ours"] = fine_tune(bench.folder, bench.train, Path(folder) / "model", config, seed=0).losses

    def plain(dtype: torch.dtype) -> Callable[[], None]:
        return lambda: losses.update({str(dtype): plain_training(bench, dtype)})

    jobs = {"ours": ours, "float32": plain(torch.float32), "bfloat16": plain(torch.bfloat16)}
    times = alternate(jobs, bench.options.repeats, warm_up=False)
    keys = {f"sft_vs_transformers_{d}": times[d] / times["ours"] for d in ("float32", "bfloat16")}
    return {"keys": keys, "tokens_per_second": {k: tokens / times[k] for k in jobs}, "losses": losses}


def plain_training(bench: Bench, dtype: torch.dtype) -> list[float]:
    """One epoch as people write it: padded batches of eight, cross entropy on response tokens, AdamW."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(bench.folder, dtype=dtype).to(bench.options.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    losses = []
    for first in range(0, len(bench.train), 8):
        some = bench.train[first : first + 8]
        longest = max(map(len, some))
        ids = torch.zeros(len(some), longest, dtype=torch.int64)
        labels = torch.full((len(some), longest), -100)
        for i, e in enumerate(some):
            ids[i, : len(e)] = torch.from_numpy(np.asarray(e.input_ids))
            labels[i, : len(e)] = torch.from_numpy(np.where(e.loss_mask, e.input_ids, -100))
        loss = model(input_ids=ids.to(bench.options.device), labels=labels.to(bench.options.device)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def generate(bench: Bench) -> Found:
    """Our generation beside transformers' in bfloat16: at most 64 new tokens for each of 32 queries, one batch."""
    from transformers import AutoModelForCausalLM

    from infra.models.generation import InProcess, Prompt, Sampling

    domains = list(SOURCES)
    half = len(bench.queries) // 2
    records = [r for d in domains for r in bench.records(d, half, skip=2000)][:32]
    prompts = [Prompt(str(i), record.prompt) for i, record in enumerate(records)]
    render = bench.tokenizer.apply_chat_template
    turns = [[{"role": m.role, "content": m.content} for m in p.messages] for p in prompts]
    texts = [render(t, add_generation_prompt=True, tokenize=False) for t in turns]
    bench.tokenizer.padding_side = "left"
    padded = bench.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    theirs = AutoModelForCausalLM.from_pretrained(bench.folder, dtype=torch.bfloat16).eval()
    own = InProcess(bench.model, bench.tokenizer)
    made: dict[str, int] = {}

    def ours() -> None:
        with products_in(bench.precision, bench.options.device):
            found = own.generate(prompts, Sampling(max_new_tokens=64, temperature=0.0))
        made["ours"] = sum(g.n_tokens for g in found)

    def plain() -> None:
        with torch.no_grad():
            out = theirs.generate(**padded, max_new_tokens=64, do_sample=False)
        new = out[:, padded["input_ids"].shape[1] :]
        made["transformers"] = int((new != theirs.generation_config.pad_token_id).sum())

    times = alternate({"ours": ours, "transformers": plain}, bench.options.repeats, warm_up=False)
    speeds = {k: made[k] / times[k] for k in made}
    ratio = speeds["ours"] / speeds["transformers"]
    return {"keys": {"generate_vs_transformers_bfloat16": ratio}, "tokens_per_second": speeds}


def growth(bench: Bench) -> Found:
    """Seconds a token of the token scores, 512 records against 64, directions given."""
    rng = np.random.default_rng(0)
    given = [
        Direction({n: torch.from_numpy(rng.standard_normal(tuple(p.shape), np.float32)) for n, p in named.items()}, d)
        for d, named in ((d, bench.tracked.parameters) for d in SOURCES)
    ]
    few, many = bench.examples(bench.options.records), bench.examples(8 * bench.options.records)
    jobs = {
        "few": lambda: bench.tokens(given, bench.precision, "loss", few) and None,
        "many": lambda: bench.tokens(given, bench.precision, "loss", many) and None,
    }
    times = alternate(jobs, 1, warm_up=False)
    cost = {"few": times["few"] / positions(bench, few), "many": times["many"] / positions(bench, many)}
    return {"keys": {"cost_per_token_growth": cost["many"] / cost["few"]}, "seconds": times.seconds}


def positions(bench: Bench, examples: Sequence[TokenizedExample]) -> int:
    """Positions of all batches, padding included."""
    return sum(b.input_ids.numel() for b in batches(examples, bench.options.tokens))


def command(bench: Bench) -> Found:
    """`infra score` from nothing to the page: 200 records, 40 queries, every stage."""
    n = bench.options.command_records
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, count, skip in (("train", n, 0), ("queries", bench.options.queries, 2000)):
            rows = []
            for record in (r for d in SOURCES for r in bench.records(d, count // 2, skip)):
                turns = [{"role": m.role, "content": m.content} for m in record.messages]
                row = {"id": f"{record.domain}-{record.id}", "messages": turns, "domain": record.domain}
                rows.append(json.dumps(row))
            files.append(Path(folder) / f"{name}.jsonl")
            files[-1].write_text("\n".join(rows) + "\n")
        arguments = ["--train", str(files[0]), "--queries", str(files[1]), "--out", str(Path(folder) / "run")]
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "infra", "score", "--model", str(bench.folder), *arguments],
            check=True,
            capture_output=True,
        )
        minutes = (time.perf_counter() - start) / 60
        lines = (Path(folder) / "run" / "runtime.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    stages = {e["stage"]: [e["seconds"], round((e.get("peak_memory_bytes") or 0) / 2**30, 2)] for e in entries}
    return {"keys": {"score_minutes": minutes}, "stages_seconds_gib": stages, "records": n}


GROUPS: dict[str, Callable[[Bench], Found]] = {
    "fit": fit,
    "scores": scores,
    "precision": precision,
    "sft": sft,
    "generate": generate,
    "growth": growth,
    "command": command,
}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--command-records", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=2048, help="positions of a batch")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--precision", choices=("float32", "fast"), help="default: fast where products gain from it")
    parser.add_argument("--only", help="groups, with commas between them")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    keys: Found = {}
    lost: list[str] = []
    said = {"tokens": sum(map(len, bench.train)), "query_tokens": sum(map(len, bench.queries)), **vars(options)}
    print(json.dumps({"setting": {**said, "precision": bench.precision, "product_gain": bench.gain}}), flush=True)
    for group in options.only.split(",") if options.only else GROUPS:
        found = GROUPS[group](bench)
        print(json.dumps({group: found}), flush=True)
        keys |= found["keys"]
        lost += found.get("lost", [])
    print(json.dumps({**keys, "lost": lost}))


if __name__ == "__main__":
    main()
