"""Loading models, naming them by hash, and the settings of precision."""

import shutil

import pytest
import torch

from infra.errors import InputError, ModelError
from infra.models import (
    deterministic,
    float64_everywhere,
    load_model,
    model_folder,
    model_hash,
    tracked_by_names,
    tracked_weights,
)
from tests.influence import toys


def save_with_tokenizer(model, folder):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 2}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>").save_pretrained(folder)
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save_with_tokenizer(toys.qwen2(torch.float32), path)
    return path


def test_a_saved_model_comes_back_in_evaluation_mode(folder):
    model, tokenizer = load_model(folder)
    assert not model.training and tokenizer("a b")["input_ids"] == [1, 2]
    assert next(model.parameters()).dtype == torch.float32
    wide, _ = load_model(folder, dtype="float64", attention="eager")
    assert next(wide.parameters()).dtype == torch.float64
    assert wide.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "nowhere", "there is no model folder"),
        (lambda p: p / "file", "is a file"),
        (lambda p: p / "empty", "no config.json"),
    ],
)
def test_a_folder_that_is_no_model_is_said_to_be_so(tmp_path, make, words):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=words):
        load_model(make(tmp_path))


def test_a_model_without_tokenizer_or_weights_is_refused(tmp_path):
    toys.qwen2(torch.float32).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no tokenizer"):
        load_model(tmp_path)
    save_with_tokenizer(toys.qwen2(torch.float32), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="cannot load"):
        load_model(tmp_path)


def test_unknown_settings_are_refused(folder):
    with pytest.raises(InputError, match="dtype is 'int4'"):
        load_model(folder, dtype="int4")
    with pytest.raises(InputError, match="attention is 'magic'"):
        load_model(folder, attention="magic")


def test_the_hash_is_of_the_weights_and_not_of_the_files(folder, tmp_path):
    model, _ = load_model(folder)
    same = model_hash(folder)
    assert len(same) == 64 and model_hash(model) == same
    model.save_pretrained(tmp_path, max_shard_size="3KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert model_hash(tmp_path) == same
    assert model_hash(load_model(folder, attention="eager")[0]) == same
    with torch.no_grad():
        model.model.norm.weight[0] += 1e-3
    assert model_hash(model) != same


def test_a_folder_without_weights_has_no_hash(tmp_path):
    with pytest.raises(InputError, match=r"no \.safetensors"):
        model_hash(tmp_path)


def test_float64_everywhere_keeps_model_code_from_rounding_down():
    x = torch.tensor([1.0 + 1e-12], dtype=torch.float64)
    with float64_everywhere():
        assert x.to(torch.float32).dtype == torch.float64
        assert x.float().dtype == torch.float64
        assert x.softmax(-1, dtype=torch.float32).dtype == torch.float64
    assert x.to(torch.float32).dtype == torch.float32


def test_determinism_is_a_setting_that_is_undone():
    before = torch.are_deterministic_algorithms_enabled()
    with deterministic():
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.are_deterministic_algorithms_enabled() == before
    with deterministic(False):
        assert torch.are_deterministic_algorithms_enabled() == before


def test_blocks_go_out_and_back_unchanged():
    model = toys.qwen2()
    tracked = tracked_weights(model, "attention")
    tensors = toys.direction(tracked.parameters, 0).tensors
    copy = {k: torch.zeros_like(t) for k, t in tensors.items()}
    for block in tracked.blocks:
        matrix = block.matrix(tensors)
        assert matrix.shape == (block.shape[0], block.columns)
        block.store(matrix, copy)
    assert all(torch.equal(copy[k], t) for k, t in tensors.items())


def test_weights_are_found_again_by_name():
    model = toys.qwen2()
    tracked = tracked_weights(model, "attention")
    assert tracked_by_names(model, tracked.names).names == tracked.names
    with pytest.raises(ModelError, match="no parameter other"):
        tracked_by_names(model, ["other"])
    with pytest.raises(ModelError, match=r"q_proj\.bias is the bias"):
        tracked_by_names(model, ["model.layers.0.self_attn.q_proj.weight"])


def test_a_hub_model_in_the_cache_is_found_without_network_and_hashed(folder, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--org--name"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("a" * 40)
    shutil.copytree(folder, place / "snapshots" / ("a" * 40))
    assert model_folder("org/name", fetch=False) == place / "snapshots" / ("a" * 40)
    assert model_hash("org/name") == model_hash(folder)
    assert model_folder("org/other", fetch=False) is None
    with pytest.raises(InputError, match="org/other cannot be had from the hub"):
        model_folder("org/other")
    for path in ("./nothere", "a/b/c", "/nothere"):
        with pytest.raises(InputError, match="no model folder"):
            model_folder(path, fetch=False)
