"""GGUF files as models, against the model that they were written from."""

from __future__ import annotations

import json
import shutil
import struct

import gguf
import pytest
import torch

from infra.errors import InputError, ModelError, ResourceError
from infra.models import load_model, load_tokenizer, model_folder, model_hash
from infra.models.cache import SOURCE, cache_folder

from .gguf_files import SPECIAL, TEXTS, add_tensor, bpe, llama, tensors, write_gguf


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    root = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("INFRA_CACHE", str(root))
    return root


@pytest.fixture(scope="module")
def raw():
    return bpe()


@pytest.fixture(scope="module")
def original(raw):
    return llama(raw.get_vocab_size())


@pytest.fixture(scope="module")
def file(tmp_path_factory, raw, original):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, original, raw)
    return path


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def test_a_gguf_file_gives_the_model_and_the_tokens_it_was_written_from(file, original, raw):
    model, tokenizer = load_model(str(file))
    assert model.dtype == torch.float32 and not model.training
    for text in (*TEXTS, "a\n\n2", "[1,    2]", "x = 10\n\n\n    7", "1 2  3", "\t42 ünï"):
        ids = tokenizer(text)["input_ids"]
        assert ids == raw.encode(text).ids, text
        assert tokenizer.decode(ids) == text
        assert torch.allclose(logits(model, ids), logits(original, ids), atol=1e-5)


def test_special_tokens_template_and_lengths_come_along(file):
    model, tokenizer = load_model(str(file))
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == SPECIAL[1:] + SPECIAL[2:]
    assert tokenizer.model_max_length == 256 and tokenizer("a")["input_ids"][0] != tokenizer.bos_token_id
    text = tokenizer.apply_chat_template([{"role": "user", "content": "2"}], tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\n2<|im_end|>\n<|im_start|>assistant\n"
    assert len(tokenizer("<|im_end|>")["input_ids"]) == 1
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 2


def test_tied_embeddings_stay_tied_and_untied_ones_apart(file, tmp_path, raw):
    model, _ = load_model(str(file))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    path, apart = tmp_path / "apart.gguf", llama(raw.get_vocab_size(), tied=False)
    write_gguf(path, apart, raw)
    found, _ = load_model(str(path))
    assert found.get_output_embeddings().weight is not found.get_input_embeddings().weight
    assert torch.equal(found.lm_head.weight, apart.lm_head.weight)


def test_quantised_weights_are_exactly_what_the_blocks_stand_for(tmp_path, raw, original):
    path = tmp_path / "small.gguf"
    write_gguf(path, original, raw, quantised=True)
    model, _ = load_model(str(path))
    weight = original.model.layers[1].mlp.down_proj.weight.detach().numpy()
    kind = gguf.GGMLQuantizationType.Q8_0
    blocks = gguf.dequantize(gguf.quantize(weight, kind), kind)
    assert model.dtype == torch.float32
    assert torch.equal(model.model.layers[1].mlp.down_proj.weight, torch.from_numpy(blocks))


def test_half_precision_files_keep_their_dtype_and_values(tmp_path, raw):
    half = llama(raw.get_vocab_size(), dtype=torch.bfloat16)
    path = tmp_path / "half.gguf"
    write_gguf(path, half, raw)
    model, _ = load_model(str(path))
    found = model.state_dict()
    assert {k: torch.equal(found[k].float(), v.float()) for k, v in half.state_dict().items()} == dict.fromkeys(
        found, True
    )


def test_greedy_text_is_the_same_before_and_after(file, original):
    model, tokenizer = load_model(str(file))
    prompt = tokenizer("the end", return_tensors="pt")
    texts = [
        m.generate(**prompt, max_new_tokens=20, do_sample=False, pad_token_id=2)[0].tolist() for m in (model, original)
    ]
    assert texts[0] == texts[1]


def test_the_folder_is_made_once_and_is_an_ordinary_one(file, cache):
    folder = model_folder(file)
    assert folder is not None and folder.parent == cache / "models"
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", SOURCE} <= {
        f.name for f in folder.iterdir()
    }
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    before = (folder / "model.safetensors").stat().st_mtime_ns
    elsewhere = file.with_name("renamed.gguf")
    shutil.copy(file, elsewhere)
    assert model_hash(file) == model_hash(folder) == model_hash(elsewhere)
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert not [f for f in folder.parent.iterdir() if f.name.endswith(".unfinished")]


def test_a_tokenizer_beside_the_file_comes_before_the_one_inside(file, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(file, own / "tiny.gguf")
    tokenizer = load_tokenizer(file)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(own)
    assert load_tokenizer(own / "tiny.gguf").chat_template == "{{ messages[0]['content'] }}"
    assert load_tokenizer(file).chat_template != "{{ messages[0]['content'] }}"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda whole: b"PK\x03\x04" + whole, InputError, "is no GGUF file"),
        (lambda whole: whole[:3], InputError, "is no GGUF file"),
        (lambda whole: whole[:10], InputError, "cut off or damaged within its head"),
        (lambda whole: whole[:2000], InputError, "cut off or damaged within its head"),
        (lambda whole: whole[:4] + struct.pack("<I", 1) + whole[8:], InputError, "of version 1"),
        (lambda whole: whole[:4] + struct.pack(">I", 3) + whole[8:], InputError, "of version 50331648"),
        (lambda whole: whole[:-5000], ModelError, "cannot be read"),
        (lambda whole: whole.replace(b"llama", b"lamal"), ModelError, "cannot be read"),
    ],
)
def test_a_file_that_is_no_whole_model_is_refused_in_a_sentence(file, tmp_path, cache, make, error, words):
    path = tmp_path / "bad.gguf"
    path.write_bytes(make(file.read_bytes()))
    with pytest.raises(error, match=words) as caught:
        load_model(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not list((cache / "models").glob("*bad*/config.json"))


def test_one_part_of_a_split_file_is_refused(tmp_path, raw, original):
    path = tmp_path / "tiny-00001-of-00003.gguf"
    write_gguf(path, original, raw, split__count=3)
    with pytest.raises(InputError, match="is one of 3 parts; join them"):
        load_model(path)


def test_a_rule_of_splitting_that_nobody_knows_is_refused_until_the_tokenizer_lies_beside(
    tmp_path, raw, original, file
):
    path = tmp_path / "odd.gguf"
    write_gguf(path, original, raw, pre="someones-own")
    with pytest.raises(InputError, match=r"splits text by the rule 'someones-own'.*put the model's own tokenizer"):
        load_model(path)
    load_tokenizer(file).save_pretrained(tmp_path)
    assert load_model(path)[1]("a\n\n2")["input_ids"] == raw.encode("a\n\n2").ids


def test_a_missing_tensor_is_an_error_and_not_a_random_weight(tmp_path, raw, original, monkeypatch):
    path = tmp_path / "hole.gguf"
    without = {k: v for k, v in tensors(original).items() if k != "blk.1.ffn_up.weight"}
    monkeypatch.setattr("tests.models.gguf_files.tensors", lambda model: without)
    write_gguf(path, original, raw)
    with pytest.raises(ModelError, match=r"no weights for model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(path)


def test_a_folder_of_gguf_files_asks_for_one_of_them(file):
    with pytest.raises(InputError, match=r"name the file, such as .*\.gguf"):
        model_folder(file.parent)


def test_a_cache_that_cannot_be_written_is_said(file, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("INFRA_CACHE", str(tmp_path / "taken"))
    with pytest.raises(ResourceError, match="set INFRA_CACHE"):
        model_folder(file)


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("INFRA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "infra" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "infra" / "models"


def test_writing_and_reading_agree_on_a_single_tensor(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "t.gguf", "llama")
    weight = torch.randn(4, 32)
    add_tensor(writer, "x", weight, False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert torch.equal(torch.from_numpy(gguf.GGUFReader(tmp_path / "t.gguf").tensors[0].data.copy()), weight)
