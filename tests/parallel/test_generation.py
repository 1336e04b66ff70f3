"""Generation shared among processes: every response once, the same as from one process."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from infra.data import Message
from infra.models import load_model
from infra.models.generation import Generation, InProcess, Prompt, Sampling, generate_cached
from infra.parallel import generation
from infra.parallel.generation import DistributedGenerator, generate_for_rank_0
from infra.parallel.process_group import init_process_group as joined
from infra.world import BASE_MODEL
from tests.parallel.processes import together

SAMPLING = Sampling(temperature=0.8, top_p=1.0, max_new_tokens=4, n=2)
PROMPTS = [Prompt(f"p{i}", (Message("user", f"What is {i} + {i}?"),), "") for i in range(7)]


class Counting:
    """A generator that notes how many prompts it was asked."""

    def __init__(self, own: InProcess) -> None:
        self.own, self.asked = own, 0

    @property
    def identity(self) -> str:
        return self.own.identity

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seed: int,
        on_result: object = None,
        done: Collection[tuple[str, int]] = frozenset(),
    ) -> list[Generation]:
        self.asked += len(prompts)
        return self.own.generate(prompts, sampling, seed, on_result, done)  # type: ignore[arg-type]


def answer(out: Path, cached: bool) -> None:
    generation.ROUND = 2
    with joined() as here:
        own = Counting(InProcess(*load_model(BASE_MODEL), identity="base"))
        if here.size == 1:
            found = generate_cached(own, PROMPTS, SAMPLING, 0, out / "one.jsonl")
        elif not here.first:
            generate_for_rank_0(own)
            (out / f"asked-{here.rank}").write_text(str(own.asked))
            return
        else:
            if cached:  # a killed command left a few lines
                lines = (out / "one.jsonl").read_text().splitlines(keepends=True)
                (out / "many.jsonl").write_text("".join(lines[3:6]))
            shared = DistributedGenerator(own)
            found = generate_cached(shared, PROMPTS, SAMPLING, 0, out / "many.jsonl")
            shared.close()
        rows = [[g.prompt_id, g.index, g.text] for g in found]
        (out / f"rows-{here.size}.json").write_text(json.dumps(rows))


def test_three_processes_give_what_one_gives_and_go_on_from_a_cache(tmp_path: Path) -> None:
    together(1, answer, tmp_path, False)
    together(3, answer, tmp_path, True)
    one, three = ((tmp_path / f"rows-{size}.json").read_text() for size in (1, 3))
    assert len(json.loads(one)) == 14 and one == three
    assert all(0 < int((tmp_path / f"asked-{rank}").read_text()) < 7 for rank in (1, 2))
    assert len((tmp_path / "many.jsonl").read_text().splitlines()) == 14
