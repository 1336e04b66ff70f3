"""A Qwen2 of a few thousand weights on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sft_examples import VOCABULARY


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model and tokenizer as save_pretrained writes them."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
    )
    model: Any = Qwen2ForCausalLM(config)
    with torch.no_grad():  # weights large enough that attention and its leaks matter
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(5)
    folder = tmp_path_factory.mktemp("base")
    model.save_pretrained(folder)
    vocab = {"<pad>": 0, "<eos>": 1, **{chr(97 + i): i + 2 for i in range(VOCABULARY - 2)}}
    core = Tokenizer(models.WordLevel(vocab=vocab, unk_token="<pad>"))
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>").save_pretrained(folder)
    return folder
