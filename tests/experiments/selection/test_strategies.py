"""Selection, pruning, influence-guided swaps, weights and truncation."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.data.schema import Message, Record, Span
from infra.errors import InputError
from infra.experiments.selection import (
    ArmItem,
    example_weights,
    influence_swap,
    make_arm,
    prune,
    random_prune,
    random_selection,
    select,
    token_weights,
    truncate,
    utility,
    weigh,
)
from infra.experiments.selection.guided import priced_top
from infra.experiments.selection.select import top
from tests.experiments.selection.test_arms import items

IDS = [f"r{i:02d}" for i in range(20)]
TARGETS = ["math", "code"]


def test_selection_for_one_target_is_the_sorted_head():
    scores = np.stack([np.arange(20.0), -np.arange(20.0)], axis=1)
    assert select(IDS, scores, TARGETS, 3, target="math").ids == ("r19", "r18", "r17")
    assert select(IDS, scores, TARGETS, 3, target="code").ids == ("r00", "r01", "r02")


def test_a_balanced_selection_does_not_follow_the_target_with_larger_numbers():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20, 2)) * [1.0, 1000.0]
    assert select(IDS, scores, TARGETS, 5).ids == select(IDS, scores * [1000.0, 1.0], TARGETS, 5).ids
    z = scores / scores.std(axis=0)
    assert select(IDS, scores, TARGETS, 1).ids == (IDS[int(np.argmax(z.sum(axis=1)))],)


def test_no_group_takes_more_than_its_share():
    scores = np.arange(20.0)[:, None]
    groups = ["a"] * 10 + ["b"] * 10
    found = select(IDS, scores, ["math"], 8, groups=groups, max_share=0.5)
    assert found.manifest["groups"] == {"b": 4, "a": 4} and json.dumps(found.manifest)
    assert found.ids[:4] == ("r19", "r18", "r17", "r16")
    with pytest.raises(InputError, match="only 4 of 8"):
        select(IDS, scores, ["math"], 8, groups=groups, max_share=0.25)


def test_pruning_drops_harm_without_benefit_and_spares_what_helps_another_target():
    scores = np.ones((20, 2))
    scores[3] = [-5, -5]
    scores[7] = [-9, 9]
    scores[11] = [-1, 0]
    found = prune(IDS, scores, TARGETS, fraction=0.2)
    assert found.ids == ("r03", "r11") and found.manifest["n_candidates"] == 2
    with pytest.raises(InputError, match="nothing to prune"):
        prune(IDS, np.abs(np.random.default_rng(0).normal(size=(20, 2))), TARGETS, fraction=0.2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: select(IDS, np.ones((20, 1)), TARGETS, 3), "2 targets are named"),
        (lambda: select(IDS, np.eye(20)[:, :2], TARGETS, 0), "k is 0"),
        (lambda: select(IDS, np.eye(20)[:, :2], TARGETS, 3, target="chess"), "unknown target 'chess'"),
        (lambda: select(IDS, np.eye(20)[:, :2], TARGETS, 3, max_share=2), "max_share is 2"),
        (lambda: utility(np.ones((20, 2)), TARGETS), "same influence on target 'math'"),
        (lambda: utility(np.full((20, 2), np.nan), TARGETS), "row 0 of the scores is not finite"),
        (lambda: prune(IDS, np.eye(20)[:, :2], TARGETS, fraction=1.5), "fraction is 1.5"),
        (lambda: example_weights(np.zeros(0)), "non-empty"),
        (lambda: example_weights(np.ones(3), low=1.5), "cannot have mean 1"),
        (lambda: example_weights(np.ones(3), strength=-1), "reward harm"),
        (lambda: example_weights(np.ones(3), np.array([1, 0, 2])), "positive count"),
        (lambda: token_weights([np.ones(3)], [np.ones(2, bool)]), "same examples and lengths"),
    ],
)
def test_choices_that_make_no_sense_are_refused_in_words(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.fixture(scope="module")
def guided():
    rng = np.random.default_rng(4)
    train = items("t", "math", 200, (0.3, 0.3, 0.2, 0.12, 0.08), rng) + items("t", "code", 200, (1,) * 5, rng)
    pool = items("p", "math", 200, (1,) * 5, rng) + items("p", "code", 200, (1,) * 5, rng)
    influence = {i.id: float(rng.normal() + 0.03 * i.n_response_tokens) for i in pool}
    flip = make_arm("flip", train, pool, fraction=0.2)
    return train, pool, influence, flip


def test_an_influence_swap_beats_flip_and_random_in_predicted_effect_at_equal_tokens(guided):
    train, pool, influence, flip = guided
    best = influence_swap(train, pool, influence, flip.out_ids)
    random = random_selection(train, pool, flip.out_ids)
    predicted = [sum(influence[i] for i in arm.in_ids) for arm in (best, flip, random)]
    assert predicted[0] > max(predicted[1:])
    for arm in (best, random):
        assert set(arm.out_ids) == set(flip.out_ids) and len(arm.in_ids) == len(flip.in_ids)
        assert all(abs(d["tokens_change"]) <= 0.01 for d in arm.manifest["domains"].values())
        assert json.dumps(arm.manifest)
    free = influence_swap(train, pool, influence, flip.out_ids, token_matched=False)
    assert sum(influence[i] for i in free.in_ids) >= predicted[0]


def test_priced_selection_is_the_best_subset_of_its_length():
    rng = np.random.default_rng(0)
    for _ in range(20):
        worth, lengths = rng.normal(size=9), rng.integers(5, 30, 9).astype(float)
        chosen = priced_top(worth, lengths, [str(i) for i in range(9)], 4, tokens=4 * lengths.mean(), band=12.0)
        total = lengths[chosen].sum()
        if abs(total - 4 * lengths.mean()) > 12:
            continue
        rivals = [worth[list(c)].sum() for c in itertools.combinations(range(9), 4) if lengths[list(c)].sum() == total]
        assert worth[chosen].sum() == pytest.approx(max(rivals))


def test_groups_cap_an_influence_swap(guided):
    train, pool, influence, flip = guided
    groups = {i.id: str(n % 4) for n, i in enumerate(pool)}
    arm = influence_swap(train, pool, influence, flip.out_ids, groups=groups, max_share=0.3)
    for domain in ("math", "code"):
        mine = [i for i in arm.in_ids if domain in i]
        assert max(sum(groups[i] == g for i in mine) for g in "0123") <= np.ceil(0.3 * len(mine))


def test_swaps_that_cannot_be_guided_are_refused(guided):
    train, pool, influence, flip = guided
    with pytest.raises(InputError, match="has no influence"):
        influence_swap(train, pool, {}, flip.out_ids)
    with pytest.raises(InputError, match="not in the training set"):
        random_selection(train, pool, ["nobody"])
    with pytest.raises(InputError, match="changes nothing"):
        random_selection(train, pool, [])
    long = [ArmItem(i.id, i.domain, i.difficulty, 10 * i.n_response_tokens) for i in pool]
    with pytest.raises(InputError, match="tokens from the"):
        influence_swap(train, long, influence, flip.out_ids)
    with pytest.raises(InputError, match="records where the swap needs"):
        random_selection(train, pool[:5] + [p for p in pool if p.domain == "code"], flip.out_ids)


def test_a_random_drop_follows_the_pruning_in_number_and_tokens_per_domain(guided):
    train = guided[0]
    rng = np.random.default_rng(0)
    dropped = prune([i.id for i in train], rng.normal(size=(len(train), 2)), TARGETS, fraction=0.1).ids
    control = random_prune(train, dropped)
    known = {i.id: i for i in train}
    assert set(control.ids) != set(dropped) and len(set(control.ids)) == len(dropped)
    for domain in ("math", "code"):
        total, a, b = (
            [known[i].n_response_tokens for i in ids if known[i].domain == domain]
            for ids in (known, dropped, control.ids)
        )
        assert len(a) == len(b) and abs(sum(a) - sum(b)) <= 0.01 * sum(total)
    with pytest.raises(InputError, match="'nobody' is not in the training set"):
        random_prune(train, ["nobody"])
    with pytest.raises(InputError, match="no record was dropped"):
        random_prune(train, [])


def test_ties_go_by_id():
    assert top(np.zeros(4), ["d", "b", "a", "c"], 2).tolist() == [2, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40), st.floats(0, 5), st.floats(0, 0.99), st.floats(1.01, 10)
)
def test_weights_are_bounded_ordered_and_keep_the_size_of_the_loss(values, strength, low, high):
    x = np.array(values)
    tokens = np.arange(1, len(x) + 1)
    w = example_weights(x, tokens, strength=strength, low=low, high=high)
    assert np.all((w >= low) & (w <= high))
    assert w @ tokens == pytest.approx(tokens.sum(), rel=1e-6)
    order = np.argsort(x, kind="stable")
    assert np.all(np.diff(w[order]) >= -1e-12)


def test_no_strength_is_no_change_and_equal_influence_is_equal_weight():
    assert np.allclose(example_weights(np.arange(9.0), strength=0), 1)
    assert np.allclose(example_weights(np.full(4, 2.0)), 1)


def test_token_weights_leave_the_prompt_alone_and_average_to_one():
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=n) for n in (5, 9)]
    masks = [np.arange(n) >= 2 for n in (5, 9)]
    weights = token_weights(scores, masks)
    assert all((w[:2] == 1).all() and w.dtype == np.float32 for w in weights)
    flat = np.concatenate([w[m] for w, m in zip(weights, masks)])
    assert flat.mean() == pytest.approx(1, abs=1e-6) and flat.std() > 0.1


def test_weighed_records_are_the_same_records_and_every_change_is_told():
    records = [Record(f"r{i}", PLAIN.messages, "math", "made", weight=7.0) for i in range(5)]
    influence = {f"r{i}": float(i) for i in range(5)}
    found = weigh(records, influence)
    assert [r.id for r in found.records] == [r.id for r in records]
    assert np.mean([r.weight for r in found.records]) == pytest.approx(1)
    assert [c["weight"] for c in found.manifest["changes"]] == [r.weight for r in found.records]
    assert 1 < found.manifest["effective_n"] < 5 and json.dumps(found.manifest)
    control = weigh(records, influence, shuffle=0)
    assert sorted(r.weight for r in control.records) == pytest.approx(sorted(r.weight for r in found.records))
    assert [r.weight for r in control.records] != [r.weight for r in found.records]
    with pytest.raises(InputError, match="record 'r4' has no influence"):
        weigh(records, {f"r{i}": 0.0 for i in range(4)})
    with pytest.raises(InputError, match="no count of response tokens"):
        weigh(records, influence, {})


def trace(*steps):
    """A record whose response is the joined steps; each step is (text, labels)."""
    text, spans = "", []
    for words, labels in steps:
        spans.append(Span(len(text), len(text) + len(words), labels))
        text += words
    messages = (Message("user", "2 + 3?"), Message("assistant", text))
    return Record("old", messages, "math", "made", answer="5", spans=tuple(spans), attributes={"difficulty": 1})


TRACE = trace(
    ("Add them. ", ("plan",)),
    ("2 + 3 = 5. ", ("computation",)),
    ("Check: 5 - 3 = 2. ", ("verification",)),
    ("Another way: count. ", ("exploration", "verification")),
    ("So 5. ", ("fact",)),
    ("\\boxed{5}", ("final_answer",)),
)
PLAIN = trace(("2 + 3 = 5. ", ("computation",)), ("\\boxed{5}", ("final_answer",)))


def test_cut_steps_are_gone_and_the_other_spans_still_name_their_text():
    found = truncate([TRACE, PLAIN], ["verification", "exploration"])
    cut = found.cut[0]
    assert cut.response == "Add them. 2 + 3 = 5. So 5. \\boxed{5}"
    assert [cut.response[s.start : s.end] for s in cut.spans] == ["Add them. ", "2 + 3 = 5. ", "So 5. ", "\\boxed{5}"]
    assert cut.id != "old" and cut.attributes == {"difficulty": 1, "cut_from": "old"} and cut.prompt == TRACE.prompt
    assert found.cut[1] is PLAIN and found.control[1] is PLAIN
    assert found.manifest["steps_by_behaviour"] == {"verification": 2, "exploration": 1}


def test_the_control_cuts_as_many_steps_of_nearly_the_same_length_and_spares_the_answer():
    for seed in range(8):
        found = truncate([TRACE], ["verification"], seed=seed)
        control = found.control[0]
        assert len(control.spans) == len(found.cut[0].spans) == 4 and control.response.endswith("\\boxed{5}")
        assert found.manifest["length_removed"] == len(TRACE.response) - len(found.cut[0].response)
        assert found.manifest["length_removed_by_control"] == len(TRACE.response) - len(control.response)
    assert truncate([TRACE], ["plan"], seed=3) == truncate([TRACE], ["plan"], seed=3)


def test_protected_steps_stay_even_when_they_carry_the_behaviour():
    both = trace(("2 + 3 = 5. ", ("computation",)), ("Check: \\boxed{5}", ("verification", "final_answer")))
    with pytest.raises(InputError, match="nothing would change"):
        truncate([both], ["verification"])


def test_broken_spans_are_named():
    overlapping = trace(("a", ("plan",)), ("b", ("fact",)))
    broken = Record("x", overlapping.messages, "math", "made", spans=(Span(0, 2, ("plan",)), Span(1, 2, ("fact",))))
    with pytest.raises(InputError, match="record 'x': span"):
        truncate([broken], ["plan"])
    with pytest.raises(InputError, match="no response"):
        truncate([Record("y", (Message("user", "?"),), "math", "made")], ["plan"])
    with pytest.raises(InputError, match="at least one behaviour"):
        truncate([TRACE], [])
