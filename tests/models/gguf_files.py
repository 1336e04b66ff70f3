"""Small Llama models written as GGUF files, the way llama.cpp's converter writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

TEXTS = ["a\n\n2. b", "def f(x):\n    return x ** 2", "1234 + 567 = 1801", "the end of the turn\n\n\n10 more"] * 3
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def bpe() -> Tokenizer:
    """A byte-level vocabulary made with every digit split off, as SmolLM's was."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=320, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
        ),
    )
    return raw


def llama(vocabulary: int, tied: bool = True, dtype: torch.dtype = torch.float32) -> Any:
    """A random Llama of width 32 with grouped-query attention."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        initializer_range=0.3,
        rope_parameters={"rope_type": "default", "rope_theta": 50_000.0},
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a query or key projection in GGUF's rotary order: pairs side by side instead of halves."""
    rows = weight.shape[0] // heads
    return weight.reshape(heads, 2, rows // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    file: Path, model: Any, raw: Tokenizer, *, pre: str = "smollm", quantised: bool = False, **settings: Any
) -> None:
    """``model`` and its tokenizer as a GGUF file; matrices in Q8_0 where ``quantised``."""
    config = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(50_000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    add_tokenizer(writer, raw, pre)
    for key, value in settings.items():
        writer.add_uint16(key.replace("__", "."), value)
    for name, tensor in tensors(model).items():
        add_tensor(writer, name, tensor, quantised and tensor.ndim == 2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: gguf.GGUFWriter, raw: Tokenizer, pre: str) -> None:
    """Tokens, merges, special tokens and chat template."""
    import json

    vocabulary = sorted(raw.get_vocab().items(), key=lambda pair: pair[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if token in SPECIAL else 1 for token, _ in vocabulary])
    writer.add_token_merges([" ".join(m) for m in json.loads(raw.to_str())["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def tensors(model: Any) -> dict[str, torch.Tensor]:
    """The model's weights under GGUF's names and in its order of rows."""
    named = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    found = {}
    for name, tensor in model.model.state_dict().items():
        if name in named:
            found[named[name]] = tensor
            continue
        _, layer, rest = name.split(".", 2)
        part = parts[rest.removesuffix(".weight")]
        found[f"blk.{layer}.{part}.weight"] = interleaved(tensor, heads[part]) if part in heads else tensor
    if not model.config.tie_word_embeddings:
        found["output.weight"] = model.lm_head.weight.detach()
    return found


def add_tensor(writer: gguf.GGUFWriter, name: str, tensor: torch.Tensor, quantised: bool) -> None:
    """One tensor: Q8_0 blocks, half precision as it is, norms in float32 as llama.cpp keeps them."""
    kind = gguf.GGMLQuantizationType
    if quantised:
        writer.add_tensor(name, gguf.quantize(tensor.float().numpy(), kind.Q8_0), raw_dtype=kind.Q8_0)
    elif tensor.dtype == torch.bfloat16 and tensor.ndim == 2:
        bits = tensor.contiguous().view(torch.int16).numpy().view(np.uint8)
        writer.add_tensor(name, bits, raw_dtype=kind.BF16)
    else:
        writer.add_tensor(name, tensor.float().contiguous().numpy())
