"""The world's tokenizer: byte-level BPE of at most 640 tokens, one digit a token, ChatML with a loss mask."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VOCAB_SIZE = 640
MARKS = r"<\|\w+\|>|</?think>|\n    | \d"
"""What is a token of its own and must not teach merges."""

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Pieces that merges never cross. It is Qwen2's pattern: transformers puts it in for every Qwen2 model, whatever the
file says, so that another one would change the tokens on loading."""

OWN_TOKENS = ("<think>", "</think>", "\n    ", *(f" {digit}" for digit in range(10)))
"""Tokens that are cut out before the pattern applies: a line's indent, and a digit with the space before it."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML. The generation block marks the assistant's text and its end-of-turn token for the loss mask."""


def train_tokenizer(texts: Iterable[str], out: Path, vocab_size: int = VOCAB_SIZE) -> None:
    """Train on ``texts`` and save in Hugging Face's fast format with the chat template.

    Every byte is a token, so any text can be written and comes back (in Unicode's composed form, which transformers
    applies for every Qwen2 model). Deterministic.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(OWN_TOKENS),
        special_tokens=[PAD, START, END],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator((piece for t in texts for piece in re.split(MARKS, t)), trainer)
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in OWN_TOKENS])
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "pad_token": PAD,
        "eos_token": END,
        "model_max_length": 512,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "chat_template": CHAT_TEMPLATE,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE)
