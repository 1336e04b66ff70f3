"""Read, template, tokenise and pack records of real length; records a second per core, stage by stage, and memory.

    python bench/data.py --source shared/data                    # 1,000 records, all rates
    python bench/data.py --source shared/data --flat 114000      # one pass, peak memory along the way

The records are drawn with a fixed seed: responses of log-normal length (median 14,000 characters, mean 18,000, about
4,700 tokens, as reasoning traces have) cut out of the text of ``--source``, a data file or a folder of them, or of a
built-in vocabulary. Without ``--tokenizer`` a byte-level BPE is trained on that text with Qwen2.5's splitting
expression and as many merges as the text gives, up to its 151,643. Prints one JSON line, last.

Rates are per second of processor time of this process, so that they are rates per core. ``floor_records_per_s`` is what
the tokenizers library needs for ``encode_batch_fast`` of the same rendered texts and nothing else: no reader that calls
it can be faster.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core: set before the library is loaded

import numpy as np

from infra.data import (
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
VOCABULARY = 151_643
SENTENCE = "so the sum of two and three is five wait let us check that again by hand 12 + 30 = 42 if x then"
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


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
    """At least twice the longest response: every response of the source's files, or built-in words."""
    if source is None:
        return " ".join(np.random.default_rng(seed).choice(np.array(SENTENCE.split()), 60_000))
    files = sorted(Path(source).glob("*.jsonl")) if Path(source).is_dir() else [Path(source)]
    found = [r.response or r.question for file in files for r in iter_records(file)]
    text = "\n".join(found[i] for i in np.random.default_rng(seed).permutation(len(found)))
    while len(text) < 2 * LONGEST:
        text += text
    return text


def own_tokenizer(text: str) -> Any:
    """A byte-level BPE with Qwen2.5's parts, trained on the text."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, show_progress=False, initial_alphabet=alphabet)
    core.train_from_iterator([text], trainer)
    core.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result and the processor seconds it took."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def pack_stream(
    examples: Iterator[TokenizedExample], length: int, chunk: int = 512, seen: Callable[[int], None] | None = None
) -> tuple[int, int]:
    """Pack ``chunk`` examples at a time, those that fit a row; (rows, tokens). Memory stays that of one chunk."""
    rows, tokens, waiting = 0, 0, []
    for i, example in enumerate(examples, 1):
        tokens += len(example)
        if len(example) <= length:
            waiting.append(example)
        if len(waiting) == chunk:
            rows += len(pack(waiting, length))
            waiting = []
        if seen is not None:
            seen(i)
    return rows + len(pack(waiting, length)), tokens


def flat(file: Path, n: int, tokenizer: Any, length: int) -> dict[str, Any]:
    """One pass over all records; peak memory after an eighth of them and at the end, which should be equal."""
    peaks: dict[int, float] = {}

    def seen(i: int) -> None:
        if i in (n // 64, n // 8, n):
            peaks[i] = round(peak_mib(), 1)

    stream = iter_tokenize(iter_records(file), tokenizer, max_length=None)
    (rows, tokens), seconds = timed(lambda: pack_stream(stream, length, seen=seen))
    return {"tokens": tokens, "rows": rows, "all_records_per_s": round(n / seconds, 1), "peak_mib_after": peaks}


def rates(file: Path, n: int, tokenizer: Any, length: int) -> dict[str, Any]:
    """Processor seconds of each longer piece of the job, and of the library's encoder alone."""
    template = resolve_template(tokenizer)
    _, read = timed(lambda: sum(1 for _ in iter_records(file)))
    texts, rendered = timed(lambda: [render_conversation(r.messages, template).text for r in iter_records(file)])
    core = tokenizer.backend_tokenizer
    batches = [texts[i : i + 64] for i in range(0, n, 64)]
    _, floor = timed(lambda: [len(core.encode_batch_fast(b, add_special_tokens=False)) for b in batches])

    def job() -> tuple[int, int]:
        return pack_stream(iter_tokenize(iter_records(file), tokenizer, max_length=None), length)

    (rows, tokens), ours = timed(job)
    return {
        "tokens": tokens,
        "rows": rows,
        "read_records_per_s": round(n / read, 1),
        "read_and_template_records_per_s": round(n / rendered, 1),
        "floor_records_per_s": round(n / floor, 1),
        "all_records_per_s": round(n / ours, 1),
        "all_tokens_per_s": round(tokens / ours),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--flat", type=int, help="only the memory, over so many records")
    parser.add_argument("--tokenizer", help="path or hub id; default: one trained here")
    parser.add_argument("--source", help="a data file, or a folder of them, whose text is used")
    parser.add_argument("--pack-length", type=int, default=32_768)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    text = corpus(args.source, args.seed)
    if args.tokenizer:
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(args.tokenizer)
    else:
        tokenizer = own_tokenizer(text)
    n = args.flat or args.records
    with tempfile.TemporaryDirectory() as folder:
        file = write_records(records(n, text, args.seed), Path(folder) / "train.jsonl")
        measured = (flat if args.flat else rates)(file, n, tokenizer, args.pack_length)
        size = file.stat().st_size
    print(
        json.dumps(
            {
                "records": n,
                "megabytes": round(size / 1e6, 1),
                "vocabulary": len(tokenizer),
                "tokens_per_record": round(measured["tokens"] / n, 1),
                **measured,
            }
        )
    )


if __name__ == "__main__":
    main()
