"""What the strategies write trains elsewhere: TRL takes a step on the Parquet, LLaMA-Factory reads the folder.

Needs an environment with trl 1.16 and llamafactory 0.9.5 over this project's own packages, whose interpreter
INFRA_TRAINERS_PYTHON names::

    INFRA_TRAINERS_PYTHON=/path/to/python pytest -m parity tests/data/test_trainers.py
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.recipes import families, published

from infra.data import Record, Span, read_records, to_llamafactory, tokenize, write_records
from infra.experiments.selection import prune, select, truncate, weigh
from infra.models import load_tokenizer

STRATEGIES = ("select", "prune", "weights", "truncate")

TRL_STEP = """
import json, sys
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer
parquet, model, out = sys.argv[1:]
rows = load_dataset("parquet", data_files=parquet, split="train", cache_dir=out + "/cache")
settings = SFTConfig(output_dir=out, max_steps=1, per_device_train_batch_size=4, max_length=None, use_cpu=True,
                     bf16=False, report_to=[], save_strategy="no", learning_rate=1e-3)
trainer = SFTTrainer(model=model, args=settings, train_dataset=rows)
before = [p.detach().clone() for p in trainer.model.parameters()]
loss = trainer.train().training_loss
moved = sum(bool((a != b).any()) for a, b in zip(before, trainer.model.parameters()))
print(json.dumps({"loss": loss, "moved": moved, "ids": {r["id"]: r["input_ids"] for r in trainer.train_dataset}}))
"""

LLAMAFACTORY_READ = """
import importlib.machinery, json, sys, types
for name in ("torchaudio",):  # only its audio plug-in uses it
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules[name] = module
folder = sys.argv[1]
from datasets import load_dataset
from llamafactory.data.converter import get_dataset_converter
from llamafactory.data.parser import get_dataset_list
from llamafactory.hparams.data_args import DataArguments
[declared] = get_dataset_list(["mine"], folder)
rows = load_dataset("json", data_files=f"{folder}/{declared.dataset_name}", split="train", cache_dir=folder + "/cache")
convert = get_dataset_converter(declared.formatting, declared, DataArguments(dataset="mine", dataset_dir=folder))
print(json.dumps([convert(row) for row in rows]))
"""


def records_with_steps(folder: Path) -> list[Record]:
    """Forty records of Bespoke-Stratos's schema; the sentence that checks is a step of its own."""
    records = read_records(published.write(folder / "s.jsonl", published.stratos(40, 0))).records
    out = []
    for record in records:
        text = record.response or ""
        at = text.find("Wait, check it again.")
        spans = (Span(at, at + 21, ("verification",)), Span(21, at, ("computation",))) if at > 21 else ()
        out.append(replace(record, spans=spans))
    return out


def made_by(strategy: str, records: list[Record]) -> tuple[list[Record], dict[str, Any]]:
    """The strategy's data set and manifest, from influence drawn at random."""
    ids = [r.id for r in records]
    scores = np.random.default_rng(0).normal(size=(len(ids), 2))
    influence = dict(zip(ids, scores[:, 0].tolist()))
    if strategy == "select":
        chosen = select(ids, scores, ["math", "code"], 12)
        return [r for r in records if r.id in set(chosen.ids)], chosen.manifest
    if strategy == "prune":
        gone = prune(ids, scores, ["math", "code"], fraction=0.2)
        return [r for r in records if r.id not in set(gone.ids)], gone.manifest
    if strategy == "weights":
        made = weigh(records, influence)
        return list(made.records), made.manifest
    cut = truncate(records, ["verification"])
    return list(cut.cut), cut.manifest


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_output_loads_with_datasets_and_says_what_changed(strategy: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    before = records_with_steps(tmp_path)
    records, manifest = made_by(strategy, before)
    path = write_records(records, tmp_path / "train.parquet")
    rows = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["id"][:] == [r.id for r in records] and rows["weight"][:] == [r.weight for r in records]
    assert [m["content"] for m in rows[0]["messages"]] == [m.content for m in records[0].messages]
    assert manifest["strategy"] == strategy and json.dumps(manifest)
    if strategy == "weights":
        assert {c["id"] for c in manifest["changes"]} == {r.id for r in before}
        assert np.mean(rows["weight"][:]) == pytest.approx(1) and len(set(rows["weight"][:])) > 10
    elif strategy == "truncate":
        assert manifest["n_changed"] == sum(r.id not in {b.id for b in before} for r in records) > 0
        assert not any("Wait, check it again." in (r.response or "") for r in records if "cut_from" in r.attributes)
    else:
        assert len(records) == {"select": 12, "prune": 40 - manifest.get("n_dropped", 0)}[strategy] < 40


@pytest.fixture(scope="module")
def python() -> str:
    where = os.environ.get("INFRA_TRAINERS_PYTHON")
    if not where:
        pytest.skip("INFRA_TRAINERS_PYTHON names no interpreter with trl and llamafactory")
    return where


def call(python: str, script: str, *arguments: object) -> Any:
    environment = {**os.environ, "DISABLE_VERSION_CHECK": "1"}  # llamafactory 0.9.5 asks for transformers up to 5.6
    done = subprocess.run(
        [python, "-c", script, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parity
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_trl_takes_a_step_on_the_tokens_that_we_would_train_on(strategy: str, python: str, tmp_path: Path) -> None:
    before = records_with_steps(tmp_path)
    base = families.small_qwen2([m.content for r in before for m in r.messages], tmp_path / "base")
    records, _ = made_by(strategy, before)
    path = write_records(records, tmp_path / "train.parquet")
    found = call(python, TRL_STEP, path, base, tmp_path / "out")
    ours = tokenize(records, load_tokenizer(base), max_length=None).examples
    assert found["ids"] == {e.id: e.input_ids.tolist() for e in ours}
    assert 0 < found["loss"] < 20 and found["moved"] > 0


@pytest.mark.parity
def test_llamafactory_reads_the_same_conversations(python: str, tmp_path: Path) -> None:
    records, _ = made_by("truncate", records_with_steps(tmp_path))
    to_llamafactory(records, tmp_path / "lf", "mine")
    rows = call(python, LLAMAFACTORY_READ, tmp_path / "lf")
    assert [
        [("system", row["_system"]), *((m["role"], m["content"]) for m in (*row["_prompt"], *row["_response"]))]
        for row in rows
    ] == [[(m.role, m.content) for m in r.messages] for r in records]
