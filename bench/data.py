"""Read, template, tokenise and pack records of real length; records a second per core, stage by stage, and memory.

    python bench/data.py                       # 2,000 records of about 18 kB, its own 8k byte-level BPE
    python bench/data.py --records 114000 --tokenizer Qwen/Qwen2.5-7B-Instruct --source math_cot.jsonl

The records are drawn with a fixed seed: responses of log-normal length (median 14,000 characters, as in
OpenThoughts-114k) cut out of the text of ``--source``, or of a built-in vocabulary when none is given. Prints one
JSON line. Rates are per second of processor time of this process, so that they are rates per core.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from infra.records import (
    Message,
    Record,
    TokenizedExample,
    iter_records,
    iter_tokenize,
    pack,
    render_conversation,
    resolve_template,
    write_records,
)

MEDIAN, SPREAD, LONGEST = 14_000, 0.7, 60_000
SENTENCE = "so the sum of two and three is five wait let us check that again by hand 12 + 30 = 42 if x then"


def records(n: int, text: str, seed: int) -> Iterator[Record]:
    """``n`` records whose responses are stretches of ``text``."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        length = int(min(np.exp(rng.normal(np.log(MEDIAN), SPREAD)), LONGEST))
        start = int(rng.integers(0, len(text) - length))
        question = f"Question {i}: " + text[start : start + 300]
        yield Record(
            f"r{i}", (Message("user", question), Message("assistant", text[start : start + length])), "math", "bench"
        )


def corpus(source: str | None, seed: int) -> str:
    """At least twice the longest response, from a file's responses or from the built-in words."""
    if source is None:
        return " ".join(np.random.default_rng(seed).choice(np.array(SENTENCE.split()), 60_000))
    text = ""
    for record in iter_records(source):
        text += (record.response or record.question) + "\n"
        if len(text) > 40 * LONGEST:
            break
    while len(text) < 2 * LONGEST:
        text += text
    return text


def small_tokenizer(text: str) -> Any:
    """A byte-level BPE of 8,000 tokens trained on the text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        show_progress=False,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    core.train_from_iterator([text[:400_000]], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|pad|>")


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result and the processor seconds it took."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--tokenizer", help="path or hub id; default: a small one trained here")
    parser.add_argument("--source", help="a data file whose text is used")
    parser.add_argument("--pack-length", type=int, default=32_768)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    text = corpus(args.source, args.seed)
    if args.tokenizer:
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(args.tokenizer)
    else:
        tokenizer = small_tokenizer(text)
    template = resolve_template(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        file = write_records(records(args.records, text, args.seed), Path(folder) / "train.jsonl")
        size = file.stat().st_size
        before = peak_mib()
        _, read = timed(lambda: sum(1 for _ in iter_records(file)))
        _, rendered = timed(
            lambda: sum(len(render_conversation(r.messages, template).text) for r in iter_records(file))
        )
        tokens, encoded = timed(
            lambda: sum(len(e) for e in iter_tokenize(iter_records(file), tokenizer, max_length=None))
        )
        chunks, packed = timed(
            lambda: pack_stream(iter_tokenize(iter_records(file), tokenizer, max_length=None), args.pack_length)
        )
        after = peak_mib()
    n = args.records
    print(
        json.dumps(
            {
                "records": n,
                "megabytes": round(size / 1e6, 1),
                "tokens": tokens,
                "read_records_per_s": round(n / read, 1),
                "read_and_template_records_per_s": round(n / rendered, 1),
                "read_template_tokenise_records_per_s": round(n / encoded, 1),
                "all_with_packing_records_per_s": round(n / packed, 1),
                "tokens_per_s": round(tokens / packed),
                "rows": chunks,
                "peak_mib_before": round(before),
                "peak_mib_after": round(after),
            }
        )
    )


def pack_stream(examples: Iterator[TokenizedExample], length: int, chunk: int = 512) -> int:
    """Pack ``chunk`` examples at a time, those that fit a row; returns the number of rows. Memory stays flat."""
    rows, waiting = 0, []
    for example in examples:
        if len(example) <= length:
            waiting.append(example)
        if len(waiting) == chunk:
            rows += len(pack(waiting, length))
            waiting = []
    return rows + len(pack(waiting, length))


if __name__ == "__main__":
    main()
