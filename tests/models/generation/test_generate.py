"""Generation in process: right tokens, independent streams, resumable; and the cache on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from infra.data.schema import Message
from infra.errors import ArtifactError, InputError, ResourceError
from infra.models.generation import Generation, InProcess, Prompt, Sampling, generate_cached
from infra.models.generation._in_process import draw

CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789 \n?+="))
    vocabulary = {token: i for i, token in enumerate([*special, *letters])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.add_special_tokens(special)
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<|pad|>", eos_token="<|im_end|>")
    fast.chat_template = CHAT
    return fast


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=48,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=96,
        tie_word_embeddings=True,
        initializer_range=0.5,
    )
    return Qwen2ForCausalLM(config).double().eval()


def ask(*questions: str) -> list[Prompt]:
    return [Prompt(f"p{i}", (Message("user", q),)) for i, q in enumerate(questions)]


QUESTIONS = ("1+1=?", "a", "how many are there when 3 leave?", "b c d", "what is 12 + 5?")


def plainly(model: Any, tokenizer: Any, prompt: Prompt, steps: int) -> list[int]:
    """Greedy decoding one prompt at a time, without padding and without a cache."""
    text = tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in prompt.messages], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    out: list[int] = []
    while len(out) < steps:
        out.append(int(model(torch.tensor([ids + out])).logits[0, -1].argmax()))
        if out[-1] == tokenizer.eos_token_id:
            break
    return out


def test_padded_batches_with_a_cache_equal_one_prompt_at_a_time(model: Any, tokenizer: Any) -> None:
    prompts = ask(*QUESTIONS)
    results = InProcess(model, tokenizer).generate(prompts, Sampling(max_new_tokens=24), seed=0)
    for prompt, result in zip(prompts, results):
        expected = plainly(model, tokenizer, prompt, 24)
        assert result.n_tokens == len(expected)
        stopped = expected[-1] == tokenizer.eos_token_id
        assert result.finish == ("stop" if stopped else "length")
        assert result.text == tokenizer.decode(expected, skip_special_tokens=True)


def test_samples_do_not_depend_on_the_batch_or_on_other_prompts(model: Any, tokenizer: Any) -> None:
    sampling = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=12, n=3)
    together = InProcess(model, tokenizer).generate(ask(*QUESTIONS), sampling, seed=5)
    alone = InProcess(model, tokenizer, max_batch_tokens=1).generate(ask(*QUESTIONS), sampling, seed=5)
    assert together == alone
    assert len({g.text for g in together}) > 5
    assert together != InProcess(model, tokenizer).generate(ask(*QUESTIONS), sampling, seed=6)


def test_prompts_that_fill_the_context_are_named(model: Any, tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"p1.*context is 96"):
        InProcess(model, tokenizer).generate(ask("a", "x" * 200), Sampling(max_new_tokens=4), seed=0)
    with pytest.raises(InputError, match="two prompts have the id 'p0'"):
        InProcess(model, tokenizer).generate(ask("a") * 2, Sampling(max_new_tokens=4), seed=0)
    result = InProcess(model, tokenizer).generate(ask("a" * 60), Sampling(max_new_tokens=80), seed=0)[0]
    assert result.n_tokens <= 96 - 60


def test_draw_follows_the_distribution_and_the_nucleus() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(4000, 1)
    uniform = ((np.arange(4000) + 0.5) / 4000).tolist()
    counts = torch.bincount(draw(logits, Sampling(temperature=1.0), uniform), minlength=4) / 4000
    assert torch.allclose(counts, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=1e-3)
    kept = torch.bincount(draw(logits, Sampling(temperature=1.0, top_p=0.8), uniform), minlength=4) / 4000
    assert torch.allclose(kept, torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=1e-3)
    assert draw(logits[:1], Sampling(temperature=1.0, top_p=0.01), [0.999]).tolist() == [0]


class Counting:
    """A generator that counts what it is asked for and can break down."""

    identity = "counting"

    def __init__(self, fail_after: int | None = None) -> None:
        self.made: list[tuple[str, int]] = []
        self.fail_after = fail_after

    def generate(self, prompts: Any, sampling: Any, seed: int, on_result: Any = None, done: Any = ()) -> Any:
        out = []
        for prompt in prompts:
            for index in range(sampling.n):
                if (prompt.id, index) in done:
                    continue
                if self.fail_after is not None and len(self.made) >= self.fail_after:
                    raise RuntimeError("killed")
                self.made.append((prompt.id, index))
                out.append(Generation(prompt.id, index, f"{prompt.messages[0].content}/{index}/{seed}", 3, "stop"))
                on_result(out[-1])
        return out


def test_the_cache_keeps_what_finished_and_asks_only_for_the_rest(tmp_path: Path) -> None:
    file, sampling = tmp_path / "g.jsonl", Sampling(temperature=1.0, n=2)
    with pytest.raises(RuntimeError, match="killed"):
        generate_cached(Counting(fail_after=3), ask("a", "b", "c"), sampling, 0, file)
    with file.open("ab") as torn:
        torn.write(b'{"key": "half a li')
    second = Counting()
    results = generate_cached(second, ask("a", "b", "c"), sampling, 0, file)
    assert second.made == [("p1", 1), ("p2", 0), ("p2", 1)]
    assert [(g.prompt_id, g.index) for g in results] == [(f"p{i}", j) for i in range(3) for j in range(2)]
    third = Counting()
    assert generate_cached(third, ask("a", "b", "c"), sampling, 0, file) == results
    assert third.made == []


def test_the_cache_tells_models_seeds_sampling_and_prompts_apart(tmp_path: Path) -> None:
    file = tmp_path / "g.jsonl"
    variants: list[tuple[list[Prompt], Sampling, int, str]] = [
        (ask("a"), Sampling(), 0, "m"),
        (ask("a"), Sampling(), 1, "m"),
        (ask("a"), Sampling(), 0, "n"),
        (ask("b"), Sampling(), 0, "m"),
        (ask("a"), Sampling(temperature=0.5), 0, "m"),
        ([Prompt("p0", (Message("user", "a"),), "<think>")], Sampling(), 0, "m"),
    ]
    for prompts, sampling, seed, name in variants:
        counting = Counting()
        generate_cached(counting, prompts, sampling, seed, file, name)
        assert len(counting.made) == 1
    more = Counting()
    generate_cached(more, ask("a"), Sampling(n=2), 0, file, "m")
    assert more.made == [("p0", 1)]


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "g.jsonl"
    generate_cached(Counting(), ask("a", "b"), Sampling(), 0, file)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0][:20] + b"\n" + lines[1])
    with pytest.raises(ArtifactError, match="line 1"):
        generate_cached(Counting(), ask("a", "b"), Sampling(), 0, file)


def test_an_interrupted_run_in_process_ends_with_the_same_generations(
    model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    sampling = Sampling(temperature=1.0, max_new_tokens=10, n=2)
    whole = generate_cached(InProcess(model, tokenizer), ask(*QUESTIONS), sampling, 3, tmp_path / "a.jsonl")
    first = InProcess(model, tokenizer)
    seen: list[Generation] = []

    def stop(generation: Generation) -> None:
        seen.append(generation)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_cached(first, ask(*QUESTIONS), sampling, 3, tmp_path / "b.jsonl", on_result=stop)
    again = generate_cached(InProcess(model, tokenizer), ask(*QUESTIONS), sampling, 3, tmp_path / "b.jsonl")
    assert again == whole


@pytest.mark.parametrize("bad", [{"temperature": -1}, {"top_p": 0}, {"n": 0}, {"max_new_tokens": 0}])
def test_sampling_out_of_range_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="out of range"):
        Sampling(**bad)


def test_answers_that_do_not_fit_together_are_given_in_halves(
    model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sampling = Sampling(temperature=1.0, max_new_tokens=12, n=2)
    whole = InProcess(model, tokenizer).generate(ask(*QUESTIONS), sampling, seed=3)
    forward, passes = type(model).forward, []

    def tight(self: Any, input_ids: Any, **more: Any) -> Any:
        passes.append(len(input_ids))
        if len(input_ids) > 3 and len(passes) > 4:  # some answers may be finished by then
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, input_ids=input_ids, **more)

    monkeypatch.setattr(type(model), "forward", tight)
    told: list[Generation] = []
    halves = InProcess(model, tokenizer).generate(ask(*QUESTIONS), sampling, seed=3, on_result=told.append)
    assert halves == whole and len(told) == len(whole) == len({(g.prompt_id, g.index) for g in told})
    assert passes[0] > 3 and "going on with half as many" in capsys.readouterr().err


def test_a_prompt_that_does_not_fit_alone_is_named(model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Any, **more: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(type(model), "forward", never)
    with pytest.raises(ResourceError, match="'p0' does not fit in memory alone"):
        InProcess(model, tokenizer).generate(ask("a"), Sampling(max_new_tokens=4), seed=0)
