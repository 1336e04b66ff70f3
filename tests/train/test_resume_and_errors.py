"""Killed at any moment, the same call ends with the same bytes; what cannot be trained is refused by name."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sft_examples import make_examples

from infra.errors import ArtifactError, InputError, ModelError
from infra.models import load_model
from infra.train import SFTConfig, fine_tune
from infra.train.batches import microbatches
from infra.train.loss import microbatch_loss
from infra.train.trainer import share

CONFIG = SFTConfig(learning_rate=5e-3, epochs=3.0, batch_size=4, save_steps=2, record_every=3)


class Killed(Exception):
    pass


def killer(at: int):
    seen = 0

    def advance(n: int = 1) -> None:
        nonlocal seen
        seen += n
        if seen >= at:
            raise Killed

    return advance


def digest(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed") / "model"
    result = fine_tune(base, make_examples(10), out, CONFIG, seed=1)
    assert result.steps == 9
    return digest(out)


@pytest.mark.parametrize("kills", [[1], [5], [3, 4, 9]])
def test_resume_gives_the_same_bytes(kills: list[int], base: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    out = tmp_path / "model"
    for at in kills:
        with pytest.raises(Killed):
            fine_tune(base, make_examples(10), out, CONFIG, seed=1, progress=killer(at))
        assert not (out / "sft.json").exists()
    told: list[int] = []
    result = fine_tune(base, make_examples(10), out, CONFIG, seed=1, progress=lambda n: told.append(n))
    assert sum(told) == result.steps == len(result.losses) == 9
    assert digest(out) == undisturbed
    assert "model.safetensors" in undisturbed and "recorded/step-000009.safetensors" in undisturbed


def test_lora_resumes_to_the_same_bytes(base: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, lora_rank=2, packing=True, gradient_checkpointing=True, lora_dropout=0.1)
    fine_tune(base, make_examples(10), tmp_path / "whole", config, seed=1)
    with pytest.raises(Killed):
        fine_tune(base, make_examples(10), tmp_path / "killed", config, seed=1, progress=killer(5))
    fine_tune(base, make_examples(10), tmp_path / "killed", config, seed=1)
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")


def test_torn_checkpoint_is_not_resumed_from(base: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    out = tmp_path / "model"
    with pytest.raises(Killed):
        fine_tune(base, make_examples(10), out, CONFIG, seed=1, progress=killer(5))
    [checkpoint] = (out / "unfinished").glob("checkpoint-*")
    torn = checkpoint.with_name("checkpoint-6")
    shutil.copytree(checkpoint, torn)
    (torn / "trainer_state.json").write_text("{")
    fine_tune(base, make_examples(10), out, CONFIG, seed=1)
    assert digest(out) == undisturbed


def test_finished_run_is_returned_and_never_overwritten(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    first = fine_tune(base, make_examples(6), out, CONFIG, seed=1)
    before = digest(out)
    again = fine_tune(base, make_examples(6), out, CONFIG, seed=1, progress=killer(1))
    assert again.losses == first.losses and digest(out) == before
    with pytest.raises(ArtifactError, match="holds a finished fine-tuning run of other inputs"):
        fine_tune(base, make_examples(6), out, CONFIG, seed=2)
    with pytest.raises(ArtifactError, match="other inputs"):
        fine_tune(base, make_examples(6, seed=9), out, CONFIG, seed=1)
    assert digest(out) == before


def test_same_seed_same_bytes_other_seed_other_model(base: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, save_steps=0, record_every=0)
    a, b, c = (tmp_path / name for name in "abc")
    fine_tune(base, make_examples(10), a, config, seed=1)
    fine_tune(base, make_examples(10), b, config, seed=1)
    fine_tune(base, make_examples(10), c, config, seed=2)
    assert digest(a) == digest(b)
    assert digest(a)["model.safetensors"] != digest(c)["model.safetensors"]


def test_saved_model_reloads_with_from_pretrained(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = replace(CONFIG, save_steps=0, record_every=0)
    out = fine_tune(base, make_examples(10), tmp_path / "m", config, seed=1).out_dir
    model = AutoModelForCausalLM.from_pretrained(out)
    assert AutoTokenizer.from_pretrained(out).eos_token == "<eos>"
    examples = make_examples(10)
    with torch.no_grad():
        after = [
            float(microbatch_loss(m, b))
            for m in (load_model(base)[0], model)
            for b in microbatches(examples, config, 0)
        ]
    assert after[1] < after[0]
    assert sorted(p.name for p in out.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "order.npy",
        "sft.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize("merge", [True, False])
def test_lora_trains_few_weights_and_reloads(merge: bool, base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    config = replace(CONFIG, save_steps=0, record_every=0, lora_rank=2, lora_merge=merge, learning_rate=5e-2)
    out = fine_tune(base, make_examples(10), tmp_path / "m", config, seed=1).out_dir
    assert (out / "adapter_config.json").exists() is not merge
    before = dict(load_model(base)[0].named_parameters())
    after = dict(AutoModelForCausalLM.from_pretrained(out).named_parameters())
    if merge:
        moved = {n for n in before if not torch.equal(before[n], after[n])}
        assert moved and all(n.endswith("proj.weight") for n in moved)
        change = after["model.layers.0.mlp.up_proj.weight"] - before["model.layers.0.mlp.up_proj.weight"]
        assert torch.linalg.matrix_rank(change.double(), rtol=1e-4) == 2
    else:
        assert any("lora_A" in n for n in after)


def test_shares_of_all_processes_make_up_the_step() -> None:
    examples = make_examples(9)
    batches = microbatches(examples, replace(CONFIG, max_tokens_per_microbatch=20), 0)
    assert len(batches) >= 4
    for world in (1, 2, 3, 4):
        shares = [share(batches, rank, world) for rank in range(world)]
        assert len({len(s) for s in shares}) == 1
        ids = [i for s in shares for b in s if b.weights.any() for i in b.ids]
        assert sorted(ids) == sorted(e.id for e in examples)


def test_unusable_examples_are_refused_by_name(base: Path, tmp_path: Path) -> None:
    good, bad = make_examples(3), make_examples(1, seed=7)[0]
    long = replace(
        bad, input_ids=np.full(65, 3), loss_mask=np.arange(65) > 0, offsets=np.zeros((65, 2), dtype=np.int32)
    )
    cases = {
        "65 tokens exceed the model's context of 64": long,
        "outside the model's vocabulary of 40": replace(bad, input_ids=bad.input_ids + 40),
        "a loss weight is not finite": replace(bad, weight=float("nan")),
        "the loss mask is empty": replace(bad, loss_mask=np.zeros(len(bad), dtype=bool)),
    }
    for words, example in cases.items():
        with pytest.raises(InputError, match=f"record r7-0: .*{words}"):
            fine_tune(base, [*good, example], tmp_path / "m", CONFIG, seed=0)
    with pytest.raises(InputError, match="no examples"):
        fine_tune(base, [], tmp_path / "m", CONFIG, seed=0)
    with pytest.raises(InputError, match="every example has weight 0"):
        fine_tune(base, [replace(e, weight=0.0) for e in good], tmp_path / "m", CONFIG, seed=0)
    assert not (tmp_path / "m").exists()


def test_exploding_loss_stops_with_the_records_names(base: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, learning_rate=1e30, warmup_ratio=0.0, max_grad_norm=0.0)
    with pytest.raises(ModelError, match=r"the loss is not finite \(records r0-"):
        fine_tune(base, make_examples(10), tmp_path / "m", config, seed=0)


def test_a_step_that_runs_out_of_memory_is_done_in_halves_with_the_same_result(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from infra.train import trainer

    config = replace(CONFIG, dtype="float64", save_steps=0, record_every=0)
    whole = fine_tune(base, make_examples(10), tmp_path / "whole", config, seed=1)
    rows: list[int] = []

    def small(model, batch):
        rows.append(len(batch.ids))
        loss = microbatch_loss(model, batch)
        if len(batch.ids) > 1 and len(rows) > 3:  # after the forward pass of a later step, gradients half made
            loss.sum().backward(retain_graph=True)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    monkeypatch.setattr(trainer, "microbatch_loss", small)
    cut = fine_tune(base, make_examples(10), tmp_path / "cut", config, seed=1)
    assert max(rows) > 1 and rows[-4:] == [1, 1, 1, 1][: len(rows[-4:])]
    assert np.allclose(cut.losses, whole.losses, rtol=1e-10, atol=0)
    assert "going on with microbatches half as large" in capsys.readouterr().err


def test_one_example_that_does_not_fit_ends_the_run_with_advice(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infra.errors import ResourceError
    from infra.train import trainer

    def never(model, batch):
        raise MemoryError

    monkeypatch.setattr(trainer, "microbatch_loss", never)
    for packing in (False, True):
        with pytest.raises(ResourceError, match="as small as they get"):
            fine_tune(base, make_examples(10), tmp_path / str(packing), replace(CONFIG, packing=packing), seed=1)
