"""Ids and lengths that a model cannot take, against what the models themselves do; and devices that are not here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from infra.data.schema import Message
from infra.errors import InputError
from infra.models import Limits, load_model
from infra.models.device import check_device
from infra.models.generation import InProcess, Prompt, Sampling
from tests.command import infra
from tests.influence import toys
from tests.models.test_models import save_with_tokenizer

LENGTH = 16
WIDE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 30}
ROTARY = {"intermediate_size": 24, "max_position_embeddings": LENGTH}
MODELS = {
    "gpt2": (GPT2LMHeadModel, GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=30, n_positions=LENGTH)),
    "opt": (
        OPTForCausalLM,
        OPTConfig(**WIDE, ffn_dim=24, max_position_embeddings=LENGTH, word_embed_proj_dim=16),
    ),
    "gptj": (
        GPTJForCausalLM,
        GPTJConfig(n_embd=16, n_layer=1, n_head=2, vocab_size=30, n_positions=LENGTH, rotary_dim=4),
    ),
    "llama": (LlamaForCausalLM, LlamaConfig(**WIDE, **ROTARY)),
    "neox": (GPTNeoXForCausalLM, GPTNeoXConfig(**WIDE, **ROTARY)),
    "bloom": (BloomForCausalLM, BloomConfig(hidden_size=16, n_layer=1, n_head=2, vocab_size=30)),
}


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request):
    kind, config = MODELS[request.param]
    torch.manual_seed(0)
    return kind(config).eval()


def computes(model, ids):
    try:
        with torch.no_grad():
            return bool(torch.isfinite(model(torch.tensor([ids])).logits).all())
    except (IndexError, RuntimeError):
        return False


def allowed(limits, ids):
    try:
        return limits.check("record a", ids) == len(ids)
    except InputError:
        return False


@pytest.mark.parametrize("length", [1, LENGTH - 1, LENGTH, LENGTH + 1, LENGTH + 5, 3 * LENGTH])
def test_a_length_is_allowed_just_where_the_model_computes_it(model, length):
    ids = [1] * length
    for limits in (Limits.of(model), Limits.of_config(model.config)):
        assert allowed(limits, ids) == computes(model, ids)


@pytest.mark.parametrize("token", [0, 29, 30, 31, 1000, -1])
def test_a_token_is_allowed_just_where_the_model_has_a_row_for_it(model, token):
    assert allowed(Limits.of(model), [1, token, 2]) == computes(model, [1, token, 2])


def test_the_error_names_record_token_and_what_to_do(model):
    limits = Limits.of(model)
    with pytest.raises(InputError, match=r"record a: token 30 is outside .* vocabulary of 30; .*resize"):
        limits.check("record a", np.array([1, 30]))


def test_a_configuration_of_several_models_is_read_at_the_text_one(tmp_path):
    from transformers import Gemma3Config

    config = Gemma3Config(text_config={"vocab_size": 77, "max_position_embeddings": 50, "num_hidden_layers": 1})
    assert Limits.of_config(config) == Limits(77, None, 50)


def test_past_the_trained_length_is_one_warning_with_the_longest(capsys):
    limits = Limits(23, None, 8)
    made = [toys.example(f"r{n}", n, 1, 0) for n in (4, 9, 8, 20)]
    assert [e.id for e in limits.checked(iter(made), " of train")] == ["r4", "r9", "r8", "r20"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "2 of 4 records of train are longer than the 8 tokens" in said and "record r20 has 20" in said
    list(limits.checked(made[:1]))
    assert capsys.readouterr().err == ""


def test_limits_are_read_without_loading_weights(tmp_path):
    save_with_tokenizer(toys.qwen2(torch.float32), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert Limits.of_folder(tmp_path) == Limits(toys.VOCABULARY, None, 128)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match="cannot read the configuration"):
        Limits.of_folder(tmp_path)


def test_a_prompt_with_tokens_the_model_does_not_know_is_named(tmp_path):
    save_with_tokenizer(toys.qwen2(torch.float32), tmp_path)
    model, tokenizer = load_model(tmp_path)
    tokenizer.add_special_tokens({"eos_token": "<e>"})
    tokenizer.add_tokens([f"w{i}" for i in range(40)])
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    ask = [Prompt("p0", (Message("user", "a b"),)), Prompt("p1", (Message("user", "a w39"),))]
    with pytest.raises(InputError, match=r"prompt 'p1': token \d+ is outside the model's vocabulary of 23"):
        InProcess(model, tokenizer).generate(ask, Sampling(max_new_tokens=2), 0)


def test_responses_that_will_be_cut_at_the_trained_length_are_announced_once(tmp_path, capsys):
    save_with_tokenizer(toys.qwen2(torch.float32), tmp_path)
    model, tokenizer = load_model(tmp_path)
    tokenizer.add_special_tokens({"eos_token": "b"})
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    own = InProcess(model, tokenizer)
    ask = [Prompt("p0", (Message("user", "a"),)), Prompt("p1", (Message("user", "a " * 100),))]
    capsys.readouterr()
    own.plan(ask, Sampling(max_new_tokens=20))
    assert capsys.readouterr().err == ""
    for _ in range(2):
        own.plan(ask, Sampling(max_new_tokens=60))
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "1 of 2 prompts with max_new_tokens 60 reach past the 128 tokens" in said


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7", "gpu", "cuda:x", "", "meta", "mps", "CPU "])
def test_a_device_that_is_not_here_is_refused_in_one_sentence(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match="use cpu") as caught:
        check_device(device)
    assert repr(device) in str(caught.value) and "\n" not in str(caught.value)


def test_of_two_devices_the_third_is_refused_with_their_names(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for there in ("cuda", "cuda:0", "cuda:1", "cpu"):
        check_device(there)
    with pytest.raises(InputError, match=r"2 CUDA devices .* one of cuda:0 to cuda:1"):
        check_device("cuda:2")


RECORD = '{"question": "a b", "response": "a", "domain": "math"}\n'


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["score", "--model", "m", "--train", "t.jsonl", "--queries", "t.jsonl", "--out", "o", "--device", "cuda"],
            "device 'cuda'",
        ),
        (["eval", "--model", "m", "--tasks", "gsm8k=t.jsonl", "--out", "o", "--device", "cuda:3"], "device 'cuda:3'"),
        (["run", "--quick", "--out", "o", "--set", "model.device=cuda"], "device 'cuda'"),
        (["data", "t.jsonl", "--figure", "x.bmp"], r"x.bmp: a figure is written as .svg, .pdf or .png"),
        (["data", "t.jsonl", "--figure", "x"], "a figure is written as"),
        (["data", "t.jsonl", "--figure", "nowhere/x.png"], "nowhere/x.png cannot be written"),
    ],
)
def test_the_command_line_says_it_in_one_sentence_before_any_work(tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    save_with_tokenizer(toys.qwen2(torch.float32), tmp_path / "m")
    (tmp_path / "t.jsonl").write_text(RECORD)
    out = infra(*arguments, cwd=tmp_path)
    assert out.returncode == 2, out.stderr
    said = [line for line in out.stderr.splitlines() if ": at work for " not in line]  # on a machine that is busy
    assert said[0].startswith("error: ") and words in out.stderr and "Traceback" not in out.stderr
    assert not (tmp_path / "o" / "recipe.json").exists()
