"""Chat templates of public models, and what each makes of a conversation, written out by hand.

``templates/NAME.jinja`` is the template in the model's published form (tokenizer_config.json or chat_template.jinja),
tools left out where they are long. ``segments`` is the oracle: the same format in plain Python, as (text, kind), where
kind is ``P`` for the prompt, ``T`` for template characters under the loss and ``C`` for the assistant's own words. It
raises :class:`Rewritten` where the template drops or changes what the assistant wrote.

A template is a fact about a model: how its turns are written down. Each names its source and that model's licence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "templates"

Messages = list[tuple[str, str]]
Segments = list[tuple[str, str]]


class Rewritten(Exception):
    """The template does not give the assistant's words back, or changes the prompt of an earlier turn."""


@dataclass(frozen=True)
class Published:
    name: str
    source: str
    licence: str
    special: tuple[str, ...]
    eos: str
    segments: Callable[[Messages], Segments]
    bos: str | None = None
    system: bool = True


THINK = re.compile(r"\s*<think>\s*|\s*</think>\s*")


def words(text: str) -> Segments:
    """The assistant's text as it stands: tags and the white space at its ends are form."""
    core = text.strip()
    lead, trail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    out, at = [(lead, "T")], 0
    for tag in THINK.finditer(core):
        out += [(core[at : tag.start()], "C"), (tag.group(), "T")]
        at = tag.end()
    return [*out, (core[at:], "C"), (trail, "T")]


def plain(
    user: str,
    head: str,
    end: str,
    after: str = "\n",
    system: str | None = None,
    begin: str = "",
    finish: str = "",
    default_system: str = "",
    trim: bool = False,
    lead: str = "",
) -> Callable[[Messages], Segments]:
    """The usual shape: every turn framed, the assistant's closed by ``end``."""

    def segments(messages: Messages) -> Segments:
        out: Segments = [(begin, "P")]
        if messages[0][0] != "system":
            out.append((default_system, "P"))
        for role, text in messages:
            text = text.strip() if trim else text
            if role == "assistant":
                out += [(head, "P"), (lead, "T"), *words(text), (end, "T"), (after, "P")]
            else:
                out.append(((user if role == "user" else system or "").replace("@", text), "P"))
        if finish:
            out.append((finish, "P"))
        return out

    return segments


def gemma3(messages: Messages) -> Segments:
    """The system's text goes before the first user's."""
    first, rest = "", messages
    if messages[0][0] == "system":
        first, rest = messages[0][1] + "\n\n", messages[1:]
    out: Segments = [("<bos>", "P")]
    for i, (role, text) in enumerate(rest):
        if role == "assistant":
            out += [("<start_of_turn>model\n", "P"), *words(text.strip()), ("<end_of_turn>", "T"), ("\n", "P")]
        else:
            out.append((f"<start_of_turn>user\n{first if i == 0 else ''}{text.strip()}<end_of_turn>\n", "P"))
    return out


def thinking(text: str, strip: str | None) -> tuple[str, str]:
    if "</think>" not in text:
        return "", text
    before, after = text.split("</think>")[0], text.split("</think>")[-1]
    return before.rstrip(strip).split("<think>")[-1].lstrip(strip), after.lstrip(strip)


def qwen3(opened: bool, trim: bool) -> Callable[[Messages], Segments]:
    """Thinking stays in the last turn only; that turn always has a thinking part, if need be an empty one.

    ``opened``: the generation prompt holds ``<think>`` already (Qwen3.5's thinking form).
    """

    def segments(messages: Messages) -> Segments:
        out: Segments = []
        for i, (role, text) in enumerate(messages):
            text = text.strip() if trim else text
            if role != "assistant":
                out.append((f"<|im_start|>{role}\n{text}<|im_end|>\n", "P"))
                continue
            reasoning, answer = thinking(text, None if trim else "\n")
            reasoning = reasoning.strip() if trim else reasoning.strip("\n")
            if trim and "</think>" in text:
                answer = answer.strip()
            out.append(("<|im_start|>assistant\n", "P"))
            if i < len(messages) - 1:
                if (opened and "</think>" in text) or answer != text:
                    raise Rewritten
                if opened:  # the prompt of this turn ended in <think>, which the turn itself lacks
                    out += [*words(text), ("<|im_end|>", "T"), ("\n", "P")]
                    continue
                out += [*words(text), ("<|im_end|>", "T"), ("\n", "P")]
                continue
            answer = answer.lstrip("\n")
            whole = f"<think>\n{reasoning}\n</think>\n\n{answer}"
            if "</think>" in text and not whole.strip().endswith(text.strip()):
                raise Rewritten
            tag = ("<think>\n", "P" if opened else "T")
            out += [tag, *words(reasoning), ("\n</think>\n\n", "T"), *words(answer), ("<|im_end|>", "T"), ("\n", "P")]
        return out

    return segments


def r1(messages: Messages) -> Segments:
    """All thinking is dropped; systems go first."""
    out: Segments = [("<｜begin▁of▁sentence｜>" + "".join(t for r, t in messages if r == "system"), "P")]
    for role, text in messages:
        if role == "user":
            out.append((f"<｜User｜>{text}", "P"))
        elif role == "assistant":
            if "</think>" in text:
                raise Rewritten
            out += [("<｜Assistant｜>", "P"), *words(text), ("<｜end▁of▁sentence｜>", "T")]
    return out


def lfm(messages: Messages) -> Segments:
    """Earlier thinking is dropped, with the white space around the answer; the last turn is kept as it is."""
    out: Segments = [("<|startoftext|>", "P")]
    for i, (role, text) in enumerate(messages):
        if role != "assistant":
            out.append((f"<|im_start|>{role}\n{text}<|im_end|>\n", "P"))
            continue
        if i < len(messages) - 1 and "</think>" in text:
            raise Rewritten
        out += [("<|im_start|>assistant\n", "P"), *words(text), ("<|im_end|>", "T"), ("\n", "P")]
    return out


def mistral_v3(messages: Messages) -> Segments:
    """The system's text goes before the last user's (and any equal one); assistants are trimmed, after a space."""
    system = messages[0][1] + "\n\n" if messages[0][0] == "system" else ""
    users = [i for i, m in enumerate(messages) if m[0] == "user"]
    if system and any(messages[i] != messages[users[-1]] for i in users):
        raise Rewritten  # the prompt of an earlier turn held the system's text there: not the same prompt
    out: Segments = [("<s>", "P")]
    for role, text in messages:
        if role == "user":
            out.append((f"[INST] {system}{text}[/INST]", "P"))
        elif role == "assistant":
            out += [(" ", "T"), *words(text.strip()), ("</s>", "T")]
    return out


IM = ("<|im_start|>", "<|im_end|>")
HEADERS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


def _im(system: str = "") -> Callable[[Messages], Segments]:
    frame = "<|im_start|>{}\n@<|im_end|>\n"
    default = frame.format("system").replace("@", system) if system else ""
    return plain(
        frame.format("user"),
        "<|im_start|>assistant\n",
        "<|im_end|>",
        system=frame.format("system"),
        default_system=default,
    )


def _llama(begin: str, system: str, default_system: str = "") -> Callable[[Messages], Segments]:
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    return plain(
        head.format("user") + "@<|eot_id|>",
        head.format("assistant"),
        "<|eot_id|>",
        after="",
        system=system,
        begin=begin,
        default_system=default_system,
        trim=True,
    )


_DATES = (
    "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
)

TEMPLATES: dict[str, Published] = {
    p.name: p
    for p in (
        Published("chatml", "teknium/OpenHermes-2.5-Mistral-7B, tokenizer_config.json", "Apache-2.0", IM, IM[1], _im()),
        Published(
            "llama-3",
            "meta-llama/Meta-Llama-3-8B-Instruct, tokenizer_config.json",
            "Llama 3 Community License",
            HEADERS,
            "<|eot_id|>",
            _llama("<|begin_of_text|>", "<|start_header_id|>system<|end_header_id|>\n\n@<|eot_id|>"),
            bos="<|begin_of_text|>",
        ),
        Published(
            "llama-3.1",
            "meta-llama/Llama-3.1-8B-Instruct, tokenizer_config.json, shortened",
            "Llama 3.1 Community License",
            HEADERS,
            "<|eot_id|>",
            _llama("<|begin_of_text|>", _DATES + "@<|eot_id|>", _DATES + "<|eot_id|>"),
            bos="<|begin_of_text|>",
        ),
        Published(
            "gemma-2",
            "google/gemma-2-2b-it, tokenizer_config.json",
            "Gemma Terms of Use",
            ("<bos>", "<start_of_turn>", "<end_of_turn>", "<eos>"),
            "<eos>",
            gemma3,
            bos="<bos>",
            system=False,
        ),
        Published(
            "gemma-3",
            "google/gemma-3-1b-it, chat_template.jinja, images left out",
            "Gemma Terms of Use",
            ("<bos>", "<start_of_turn>", "<end_of_turn>", "<eos>"),
            "<eos>",
            gemma3,
            bos="<bos>",
        ),
        Published(
            "qwen2.5",
            "Qwen/Qwen2.5-7B-Instruct, tokenizer_config.json, shortened",
            "Apache-2.0",
            IM,
            IM[1],
            _im("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
        ),
        Published(
            "qwen3",
            "Qwen/Qwen3-0.6B, tokenizer_config.json, tools left out",
            "Apache-2.0",
            IM,
            IM[1],
            qwen3(opened=False, trim=False),
        ),
        Published(
            "qwen3.5-thinking",
            "Qwen/Qwen3.5 and 3.6 thinking form, in the words of the public issue",
            "Apache-2.0",
            IM,
            IM[1],
            qwen3(opened=True, trim=True),
        ),
        Published(
            "smollm2",
            "HuggingFaceTB/SmolLM2-135M-Instruct, tokenizer_config.json",
            "Apache-2.0",
            IM,
            IM[1],
            _im("You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
        ),
        Published(
            "mistral-v0.2",
            "mistralai/Mistral-7B-Instruct-v0.2, tokenizer_config.json",
            "Apache-2.0",
            ("<s>", "</s>"),
            "</s>",
            plain("[INST] @ [/INST]", "", "</s>", after="", begin="<s>"),
            bos="<s>",
            system=False,
        ),
        Published(
            "mistral-v0.3",
            "mistralai/Mistral-7B-Instruct-v0.3, tokenizer_config.json, tools left out",
            "Apache-2.0",
            ("<s>", "</s>", "[INST]", "[/INST]"),
            "</s>",
            mistral_v3,
            bos="<s>",
        ),
        Published(
            "phi-3",
            "microsoft/Phi-3-mini-4k-instruct, tokenizer_config.json",
            "MIT",
            ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
            "<|endoftext|>",
            plain(
                "<|user|>\n@<|end|>\n",
                "<|assistant|>\n",
                "<|end|>",
                system="<|system|>\n@<|end|>\n",
                finish="<|endoftext|>",
            ),
        ),
        Published(
            "phi-4",
            "microsoft/phi-4, tokenizer_config.json",
            "MIT",
            (*IM, "<|im_sep|>", "<|endoftext|>"),
            "<|im_end|>",
            plain(
                "<|im_start|>user<|im_sep|>@<|im_end|>",
                "<|im_start|>assistant<|im_sep|>",
                "<|im_end|>",
                after="",
                system="<|im_start|>system<|im_sep|>@<|im_end|>",
            ),
        ),
        Published(
            "zephyr",
            "HuggingFaceH4/zephyr-7b-beta, tokenizer_config.json",
            "MIT",
            ("<s>", "</s>"),
            "</s>",
            plain("<|user|>\n@</s>\n", "<|assistant|>\n", "</s>", system="<|system|>\n@</s>\n"),
        ),
        Published(
            "deepseek-r1-distill",
            "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B, tokenizer_config.json, tools left out",
            "MIT",
            ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
            "<｜end▁of▁sentence｜>",
            r1,
            bos="<｜begin▁of▁sentence｜>",
        ),
        Published(
            "lfm2.5",
            "LiquidAI/LFM2.5-8B-A1B, chat_template.jinja, tools left out",
            "LFM Open License v1.0",
            ("<|startoftext|>", *IM),
            IM[1],
            lfm,
            bos="<|startoftext|>",
        ),
    )
}


def tokenizer_of(published: Published, jinja: str | None = None) -> Any:
    """A tokenizer of bytes with the special tokens of the model and its template, or another one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)}
    pairs = [("Ċ", "Ċ"), ("Ġ", "5"), ("Ċ", "5"), ("l", "l"), ("5", "Ċ")]
    for a, b in pairs:
        vocab[a + b] = len(vocab)
    core = Tokenizer(models.BPE(vocab=vocab, merges=pairs))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(published.special))
    names = {"eos_token": published.eos} | ({"bos_token": published.bos} if published.bos else {})
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **names)
    tokenizer.chat_template = jinja or (FOLDER / f"{published.name}.jinja").read_text()
    return tokenizer
