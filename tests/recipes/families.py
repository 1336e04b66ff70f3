"""Models of the recipes' families made small: random weights, the family's own configuration class, tokenizer layout
and turn format, with a byte-level BPE of 700 tokens trained on the test's own text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2_SPLIT = CONTRACTION + WORDS + r"\p{N}" + REST
LLAMA3_SPLIT = CONTRACTION + WORDS + r"\p{N}{1,3}" + REST

QWEN2_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3_SPECIAL = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|finetune_right_pad_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
]

# what the families' own templates write for system, user and assistant turns without tools
QWEN2_TURNS = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- for turn in messages -%}"
    "{{- '<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
LLAMA3_TURNS = (
    "{{- bos_token -}}"
    "{%- for turn in messages -%}"
    "{{- '<|start_header_id|>' + turn['role'] + '<|end_header_id|>\\n\\n' + turn['content'] | trim + '<|eot_id|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}"
)


def bpe(texts: Iterable[str], split: str, special: list[str], nfc: bool) -> Tokenizer:
    """Byte-level BPE behind a splitting expression, as both families build theirs."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC() if nfc else None
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False))
    core.add_special_tokens(special)
    return core


def qwen2_tokenizer(texts: Iterable[str]) -> Any:
    """Qwen2.5-Instruct's layout: no beginning-of-sequence token, turns closed by ``<|im_end|>``."""
    core = bpe(texts, QWEN2_SPLIT, QWEN2_SPECIAL, nfc=True)
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = QWEN2_TURNS
    return tokenizer


def llama3_tokenizer(texts: Iterable[str], instruct: bool = False) -> Any:
    """Llama 3's layout: ``<|begin_of_text|>`` before every text; only the instruct model has a chat template."""
    core = bpe(texts, LLAMA3_SPLIT, LLAMA3_SPECIAL, nfc=False)
    bos = "<|begin_of_text|>"
    core.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))]),
        ]
    )
    end = "<|eot_id|>" if instruct else "<|end_of_text|>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=bos, eos_token=end)
    if instruct:
        tokenizer.chat_template = LLAMA3_TURNS
    return tokenizer


def small_qwen2(texts: Iterable[str], folder: Path) -> Path:
    """Qwen2.5-7B's architecture in small: grouped queries, biases on them, untied head, its rotary base."""
    tokenizer = qwen2_tokenizer(texts)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return _save(Qwen2ForCausalLM, config, tokenizer, folder)


def small_llama3(texts: Iterable[str], folder: Path) -> Path:
    """Llama 3's architecture in small: grouped queries, untied head, its rotary base with llama3 scaling (3.1)."""
    tokenizer = llama3_tokenizer(texts)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 4096,
        },
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return _save(LlamaForCausalLM, config, tokenizer, folder)


def _save(kind: Any, config: Any, tokenizer: Any, folder: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
