"""Generate, verify, tabulate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from infra.data.rows import whole_text
from infra.data.schema import Message, Record
from infra.evals._types import EvalRow, Verdict
from infra.evals._verify import verify_many
from infra.models.generation import Generation, Generator, Prompt, Sampling, generate_cached

Verify = Callable[..., list[Verdict]]


def prompts_of(problems: Sequence[Record], system: str | None = None, thinking_prefix: str = "") -> list[Prompt]:
    """Each problem's messages before the assistant turn, with a system prompt and a forced beginning when
    given.
    """
    out = []
    for problem in problems:
        messages = problem.prompt
        if system is not None:
            messages = (Message("system", system), *(m for m in messages if m.role != "system"))
        out.append(Prompt(problem.id, tuple(messages), thinking_prefix))
    return out


def split_name(problem: Record) -> str:
    """``target`` or ``held-out``: the problem's own mark, else by hash of its text."""
    own = problem.attributes.get("split")
    if own is not None:
        return str(own)
    from infra.data import split_of

    return str(split_of(problem.question))


def evaluate(
    problems: Sequence[Record],
    generator: Generator,
    sampling: Sampling,
    seed: int,
    cache_dir: Path | str | None = None,
    verify: Verify = verify_many,
    *,
    cache_file: Path | str | None = None,
    model_hash: str | None = None,
    system: str | None = None,
    thinking_prefix: str = "",
    mode: str = "strict",
    workers: int | None = None,
    unsafe_execution: bool = False,
    progress: Callable[[int], object] | None = None,
) -> list[EvalRow]:
    """One row per problem and sample, in that order.

    Generations go through ``cache_file`` (or ``cache_dir/generations.jsonl``; without either nothing is
    kept). ``progress`` is told once for every response when it is there, cached ones included. Raises what
    generator and verifier raise.
    """
    prompts = prompts_of(problems, system, thinking_prefix)
    file = cache_file if cache_file is not None else Path(cache_dir) / "generations.jsonl" if cache_dir else None

    def tell(generation: Generation) -> None:
        if progress is not None:
            progress(1)

    if file is None:
        generations = generator.generate(prompts, sampling, seed, tell)
    else:
        count = 0

        def tell_new(generation: Generation) -> None:
            nonlocal count
            count += 1
            tell(generation)

        generations = generate_cached(generator, prompts, sampling, seed, file, model_hash, tell_new)
        if progress is not None and len(generations) > count:
            progress(len(generations) - count)
    by_id = {p.id: p for p in problems}
    asked = [by_id[g.prompt_id] for g in generations]
    verdicts = verify(
        asked, [g.text for g in generations], mode=mode, workers=workers, unsafe_execution=unsafe_execution
    )
    rows = []
    for problem, generation, verdict in zip(asked, generations, verdicts):
        level = problem.attributes.get("difficulty")
        rows.append(
            EvalRow(
                problem_id=problem.id,
                index=generation.index,
                outcome=verdict.outcome,
                correct=verdict.correct,
                text=whole_text(generation.text),
                n_tokens=generation.n_tokens,
                difficulty=level if isinstance(level, int | str) else None,
                split=split_name(problem),
                answer=whole_text(verdict.answer),
                detail=whole_text(verdict.detail),
                finish=generation.finish,
            )
        )
    return rows
