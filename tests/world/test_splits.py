"""Splits are disjoint, sized and mixed as promised, and behaviours do not know the difficulty."""

import itertools
from collections import Counter

import pytest
from scipy.stats import chi2_contingency

from infra.data.schema import Record
from infra.errors import InputError
from infra.world import World, build_world, world_hash
from infra.world.behaviours import OPTIONAL
from infra.world.build import MIXES, POOL_SIZE
from infra.world.pretrain_text import _code, _math

KNOWN = {*OPTIONAL, "computation", "final_answer"}


def keys(records: tuple[Record, ...]) -> set[str]:
    return {str(r.attributes["key"]) for r in records}


def test_sizes_and_mixes(world: World, balanced: World, opposite: World) -> None:
    for each in (world, balanced, opposite):
        for domain in ("math", "code"):
            levels = Counter(r.attributes["difficulty"] for r in each.train if r.domain == domain)
            assert tuple(levels[d] for d in range(1, 6)) == MIXES[each.name][domain] and levels.total() == 1500
            pool = Counter(r.attributes["difficulty"] for r in each.pool if r.domain == domain)
            assert set(pool.values()) == {POOL_SIZE // 5} and len(pool) == 5 and POOL_SIZE >= 1500
            sides = Counter(r.attributes["split"] for r in each.problems[f"world-{domain}"])
            assert sides["held-out"] == 400 and sides["target"] >= 200
            assert len(each.problems[f"world-{domain}-paraphrased"]) == 400
    assert world.pool == balanced.pool == opposite.pool and world.problems == balanced.problems == opposite.problems


def test_default_has_too_much_easy_math_and_hard_code(world: World) -> None:
    easy = Counter((r.domain, r.attributes["difficulty"] in (1, 2)) for r in world.train)
    hard = Counter((r.domain, r.attributes["difficulty"] in (4, 5)) for r in world.train)
    assert easy["math", True] == hard["code", True] == 900 and easy["code", True] == hard["math", True] == 300


def test_splits_share_no_problem_and_no_text(world: World, balanced: World, opposite: World) -> None:
    bench = tuple(itertools.chain(*world.problems.values()))
    train = (*world.train, *balanced.train, *opposite.train)
    groups = {"train": train, "pool": world.pool, "bench": bench}
    for (_, a), (_, b) in itertools.combinations(groups.items(), 2):
        assert not keys(a) & keys(b)
        assert not {r.question for r in a} & {r.question for r in b}
    for task in ("world-math", "world-code"):
        target = tuple(r for r in world.problems[task] if r.attributes["split"] == "target")
        held = tuple(r for r in world.problems[task] if r.attributes["split"] == "held-out")
        assert not keys(target) & keys(held)
        assert keys(held) == keys(world.problems[task + "-paraphrased"])
        assert len(keys(held)) == len(held)


def test_ids_are_unique(world: World) -> None:
    everything = [*world.train, *world.pool, *itertools.chain(*world.problems.values())]
    assert len({r.id for r in everything}) == len(everything)
    assert len({r.question for r in everything}) == len(everything)


def test_at_least_thirty_families_and_a_third_unknown_to_pretraining(world: World) -> None:
    from infra.world.catalogue import CODE_OPS
    from infra.world.math_families import MATH_FAMILIES

    for domain, catalogue in (("math", MATH_FAMILIES), ("code", CODE_OPS)):
        used = {r.attributes["family"] for r in world.train if r.domain == domain}
        assert len(used) >= 30 and used == {f.name for f in catalogue}
        assert sum(not f.pretrain for f in catalogue) * 3 >= len(catalogue)


def test_pretraining_problems_are_of_no_split(world: World) -> None:
    import random

    rng = random.Random(5)
    seen = {draw(rng, (0.2,) * 5).key for draw in (_math, _code) for _ in range(400)}  # type: ignore[operator]
    assert not seen & keys((*world.train, *world.pool, *itertools.chain(*world.problems.values())))


def test_behaviours_do_not_depend_on_difficulty(world: World, balanced: World) -> None:
    for domain in ("math", "code"):
        records = [r for r in (*world.pool, *balanced.train) if r.domain == domain]
        for behaviour in OPTIONAL:
            found = Counter((r.attributes[f"has_{behaviour}"], r.attributes["difficulty"]) for r in records)
            table = [[found[flag, d] for d in range(1, 6)] for flag in (True, False)]
            assert min(map(min, table)) > 50
            assert chi2_contingency(table).pvalue > 0.001, (domain, behaviour, table)


def test_spans_partition_the_response_and_match_the_attributes(world: World) -> None:
    for record in (*world.train, *world.pool):
        text = record.response or ""
        assert "".join(text[s.start : s.end] for s in record.spans) == text
        assert record.spans[0].start == 0 and all(a.end == b.start for a, b in zip(record.spans, record.spans[1:]))
        labels = Counter(label for s in record.spans for label in s.labels)
        assert set(labels) <= KNOWN and labels["final_answer"] == 1
        assert labels["computation"] >= 1 or record.domain == "code"
        for behaviour in OPTIONAL:
            assert (labels[behaviour] > 0) is record.attributes[f"has_{behaviour}"]
        order = [s.labels[0] for s in record.spans if s.labels]
        if "exploration_after_answer" in order:
            assert "computation" not in order[order.index("exploration_after_answer") :]
        if "exploration" in order:
            assert "computation" not in order[: order.index("exploration")]


def test_lengths_overlap_enough_for_token_matched_swaps(world: World) -> None:
    """The longest 450 of the easy side reach the length of the leanest 450 of the hard side (in characters too)."""
    lengths = lambda records, domain, levels: sorted(  # noqa: E731
        len(r.response or "") for r in records if r.domain == domain and r.attributes["difficulty"] in levels
    )
    assert sum(lengths(world.train, "math", (1, 2))[-450:]) > sum(lengths(world.pool, "math", (4, 5))[:450])
    assert sum(lengths(world.pool, "code", (1, 2))[-450:]) > sum(lengths(world.train, "code", (4, 5))[:450])


def test_another_seed_gives_another_world(world: World) -> None:
    """That the same seed gives the same world is what the frozen hashes say."""
    other = build_world("default", seed=1)
    assert not set(world_hash(other).values()) & set(world_hash(world).values())


def test_an_unknown_world_is_named() -> None:
    with pytest.raises(InputError, match="There is no world 'flat'; choose one of default"):
        build_world("flat")
