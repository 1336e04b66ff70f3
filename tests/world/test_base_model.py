"""The base model is small, is ours, and answers in a form that can be read."""

import json
import re

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from infra.world import BASE_MODEL, World


def test_it_fits_the_package() -> None:
    assert sum(f.stat().st_size for f in BASE_MODEL.iterdir()) <= 8 * 2**20
    config = json.loads((BASE_MODEL / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"] and config["tie_word_embeddings"]
    assert not (BASE_MODEL / "checkpoint.pt").exists()


def test_it_answers_in_parseable_form(world: World) -> None:
    model = AutoModelForCausalLM.from_pretrained(BASE_MODEL, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(BASE_MODEL)
    assert model.num_parameters() <= 3_000_000
    for task, form in (("world-math", r"\\boxed\{-?\d+\}"), ("world-code", r"```python\ndef \w+\(.*\n```")):
        for name in (task, task + "-paraphrased"):
            problems = [p for p in world.problems[name] if p.attributes["split"] == "held-out"][:40]
            prompts = [
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": p.question}], add_generation_prompt=True, tokenize=False
                )
                for p in problems
            ]
            batch = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False)
            with torch.no_grad():
                out = model.generate(**batch, max_new_tokens=120, do_sample=False)
            texts = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
            assert sum(bool(re.search(form, t, re.S)) for t in texts) >= 0.9 * len(texts), name
