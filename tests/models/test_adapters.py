"""PEFT adapters as models, against PEFT's own unmerged pass."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from infra.errors import InputError, ModelError
from infra.models import load_model, load_tokenizer, model_folder, model_hash
from tests.influence import toys
from tests.models.test_models import save_with_tokenizer

peft = pytest.importorskip("peft")
IDS = torch.tensor([[1, 2, 1, 1, 2, 0, 1]])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INFRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def base(tmp_path):
    save_with_tokenizer(toys.qwen2(torch.float32), tmp_path / "base")
    return tmp_path / "base"


def train_a_little(model):
    """Random numbers in every trained weight, so that the adapter changes something."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def adapter(base, folder, settings=None):
    """An adapter over ``base`` saved in ``folder``; gives the unmerged logits."""
    settings = settings or peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    model = train_a_little(peft.get_peft_model(load_model(base)[0], settings))
    model.save_pretrained(folder)
    return logits(model)


@pytest.mark.parametrize(
    "settings",
    [
        peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
        peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], use_rslora=True),
        peft.LoraConfig(r=2, target_modules="all-linear", use_dora=True, task_type="CAUSAL_LM"),
        peft.LoraConfig(r=2, target_modules=["down_proj"], modules_to_save=["norm"], task_type="CAUSAL_LM"),
        peft.IA3Config(
            target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
        ),
    ],
    ids=["lora", "rslora", "dora", "lora and a whole module", "ia3"],
)
def test_an_adapter_is_the_model_that_peft_runs(base, tmp_path, settings, cache):
    expected = adapter(base, tmp_path / "adapter", settings)
    model, tokenizer = load_model(tmp_path / "adapter")
    assert torch.allclose(logits(model), expected, atol=1e-5)
    assert not torch.allclose(expected, logits(load_model(base)[0]), atol=1e-2)
    assert tokenizer("a b")["input_ids"] == [1, 2] == load_tokenizer(tmp_path / "adapter")("a b")["input_ids"]
    folder = model_folder(tmp_path / "adapter")
    assert folder is not None and folder.parent == cache
    assert model_hash(tmp_path / "adapter") == model_hash(model) == model_hash(folder)
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_our_own_adapters_are_models_too(base, tmp_path):
    from infra.train import SFTConfig, fine_tune

    config = SFTConfig(epochs=2, batch_size=2, learning_rate=5e-2, lora_rank=2, lora_merge=False, device="cpu")
    fine_tune(base, toys.examples(4), tmp_path / "adapter", config, seed=0)
    fine_tune(
        base, toys.examples(4), tmp_path / "merged", SFTConfig(**{**config.as_dict(), "lora_merge": True}), seed=0
    )
    one, two = load_model(tmp_path / "adapter")[0], load_model(tmp_path / "merged")[0]
    assert torch.allclose(logits(one), logits(two), atol=1e-5)
    assert not torch.allclose(logits(one), logits(load_model(base)[0]), atol=1e-3)


def test_a_small_change_to_a_half_precision_base_is_not_rounded_away(base, tmp_path):
    half = load_model(base, dtype="bfloat16")[0]
    save_with_tokenizer(half, tmp_path / "half")
    model = peft.get_peft_model(
        load_model(tmp_path / "half", dtype="float32")[0], peft.LoraConfig(r=1, target_modules=["o_proj"])
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.fill_(1e-3)
    model.save_pretrained(tmp_path / "adapter")
    found = load_model(tmp_path / "adapter")[0].model.layers[0].self_attn.o_proj.weight
    change = found - half.model.layers[0].self_attn.o_proj.weight.float()
    assert torch.allclose(change, torch.full_like(change, 8e-6), atol=1e-7)


def test_the_base_is_found_relative_to_the_adapter_and_by_plus(base, tmp_path, monkeypatch):
    expected = adapter(base, tmp_path / "runs" / "adapter")
    config = tmp_path / "runs" / "adapter" / "adapter_config.json"
    said = json.loads(config.read_text())
    shutil.move(base, tmp_path / "runs" / "adapter" / "start")
    config.write_text(json.dumps({**said, "base_model_name_or_path": "start"}))
    assert torch.allclose(logits(load_model(tmp_path / "runs" / "adapter")[0]), expected, atol=1e-5)
    moved = shutil.move(tmp_path / "runs" / "adapter" / "start", tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"base model of the adapter .* cannot be had.*--model BASE\+"):
        load_model(tmp_path / "runs" / "adapter")
    named = f"{moved}+{tmp_path / 'runs' / 'adapter'}"
    assert torch.allclose(logits(load_model(named)[0]), expected, atol=1e-5)
    monkeypatch.chdir(tmp_path)
    assert torch.allclose(logits(load_model("elsewhere+runs/adapter")[0]), expected, atol=1e-5)


def test_another_base_or_another_adapter_is_another_model(base, tmp_path):
    adapter(base, tmp_path / "adapter")
    first = model_hash(tmp_path / "adapter")
    save_with_tokenizer(toys.qwen2(torch.float32, seed=5), base)
    second = model_hash(tmp_path / "adapter")
    adapter(base, tmp_path / "adapter", peft.LoraConfig(r=1, target_modules=["q_proj"]))
    assert len({first, second, model_hash(tmp_path / "adapter")}) == 3


def test_a_larger_vocabulary_comes_with_its_tokenizer(base, tmp_path):
    model, tokenizer = load_model(base)
    tokenizer.add_tokens(["c", "d"])
    model.resize_token_embeddings(30, mean_resizing=False)
    settings = peft.LoraConfig(r=1, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    model = train_a_little(peft.get_peft_model(model, settings))
    model.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    found, own = load_model(tmp_path / "adapter")
    assert found.get_input_embeddings().weight.shape[0] == 30 and own("c")["input_ids"] == tokenizer("c")["input_ids"]
    assert torch.allclose(logits(found), logits(model), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_model_name_or_path": None}, r"does not name the base model; .*--model BASE\+"),
        ({"base_model_name_or_path": "./gone"}, r"there is no model folder .*--model BASE\+"),
        ({"base_model_name_or_path": "."}, "is no model folder"),
        ({"peft_type": "PROMPT_TUNING"}, "changes no weights"),
        ({"peft_type": "PREFIX_TUNING"}, "changes no weights"),
        ({"task_type": "SEQ_CLS"}, "for the task SEQ_CLS"),
        ("{", "cannot be read as JSON"),
        ("[]", "is no JSON object"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_refused_in_a_sentence(base, tmp_path, change, words):
    adapter(base, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    said = json.loads(file.read_text())
    file.write_text(change if isinstance(change, str) else json.dumps({**said, **change}))
    with pytest.raises(InputError, match=words) as caught:
        load_model(tmp_path / "adapter")
    assert "\n" not in str(caught.value) and "adapter" in str(caught.value)


def test_weights_that_are_missing_damaged_or_of_another_model_are_refused(base, tmp_path):
    adapter(base, tmp_path / "adapter")
    save_with_tokenizer(toys.qwen2(torch.float32, hidden_size=32), tmp_path / "wider")
    with pytest.raises(ModelError, match=r"cannot be added to .*wider"):
        load_model(f"{tmp_path / 'wider'}+{tmp_path / 'adapter'}")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot be added"):
        load_model(tmp_path / "adapter")
    weights.unlink()
    with pytest.raises(InputError, match=r"no adapter_model\.safetensors"):
        load_model(tmp_path / "adapter")


def test_a_folder_with_a_model_and_an_adapter_is_ambiguous(base, tmp_path):
    adapter(base, tmp_path / "adapter")
    save_with_tokenizer(toys.qwen2(torch.float32), tmp_path / "adapter")
    with pytest.raises(InputError, match=r"both a model .* and an adapter"):
        load_model(tmp_path / "adapter")
