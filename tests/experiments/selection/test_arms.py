"""The arms: what each takes out and puts in, and what stays equal between them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import InputError
from infra.experiments.selection import ARM_NAMES, Arm, ArmItem, make_arm

SKEW = (0.3, 0.3, 0.2, 0.12, 0.08)


def items(prefix, domain, n, shares, rng, slope=5, spread=45):
    level = rng.choice([1, 2, 3, 4, 5], size=n, p=np.array(shares) / sum(shares))
    length = np.maximum(30 + slope * level + rng.gamma(2.0, spread / 2, n), 5).astype(int)
    return [ArmItem(f"{prefix}-{domain}-{i}", domain, int(d), int(t)) for i, (d, t) in enumerate(zip(level, length))]


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    train = items("t", "math", 400, SKEW, rng) + items("t", "code", 400, SKEW[::-1], rng)
    pool = items("p", "math", 400, (1,) * 5, rng) + items("p", "code", 400, (1,) * 5, rng)
    return train, pool


@pytest.fixture(scope="module")
def arms(sets):
    return {name: make_arm(name, *sets) for name in ARM_NAMES}


def levels(sets, ids, domain):
    known = {i.id: i for s in sets for i in s}
    return [known[i].difficulty for i in ids if known[i].domain == domain]


def tokens(sets, ids, domain):
    known = {i.id: i for s in sets for i in s}
    return sum(known[i].n_response_tokens for i in ids if known[i].domain == domain)


@pytest.mark.parametrize("name", ARM_NAMES)
def test_every_arm_swaps_the_same_number_per_domain_and_keeps_the_tokens_within_one_percent(sets, arms, name):
    train, _ = sets
    arm = arms[name]
    assert len(arm.order) == len(train) == len(set(arm.order))
    for domain in ("math", "code"):
        assert len(levels(sets, arm.out_ids, domain)) == len(levels(sets, arm.in_ids, domain)) == 120
        before = tokens(sets, [i.id for i in train], domain)
        assert abs(tokens(sets, arm.order, domain) - before) <= 0.01 * before


def test_flip_takes_easy_math_and_hard_code_out_and_the_opposite_in(sets, arms):
    flip = arms["flip"]
    assert set(levels(sets, flip.out_ids, "math")) <= {1, 2}
    assert set(levels(sets, flip.in_ids, "math")) <= {4, 5}
    assert set(levels(sets, flip.out_ids, "code")) <= {4, 5}
    assert set(levels(sets, flip.in_ids, "code")) <= {1, 2}


def test_the_control_takes_the_same_records_out_and_puts_the_same_levels_in_pair_by_pair(sets, arms):
    flip, control = arms["flip"], arms["same-difficulty-swap"]
    assert set(flip.out_ids) == set(control.out_ids)
    known = {i.id: i for s in sets for i in s}
    assert all(known[o].difficulty == known[i].difficulty for o, i in control.pairs)
    assert not set(flip.in_ids) & {i.id for i in sets[0]}


def test_reverse_flip_moves_the_levels_the_other_way(sets, arms):
    for domain, sign in (("math", -1), ("code", 1)):
        reverse = arms["reverse-flip"]
        out, put = (np.mean(levels(sets, ids, domain)) for ids in (reverse.out_ids, reverse.in_ids))
        assert sign * (put - out) > 0.5


def test_a_widened_reverse_flip_says_so(sets):
    rng = np.random.default_rng(3)
    train = items("t", "math", 300, (0.5, 0.4, 0.06, 0.02, 0.02), rng)
    pool = items("p", "math", 300, (1,) * 5, rng)
    report = make_arm("reverse-flip", train, pool, domains={"math": "harder"}).manifest["domains"]["math"]
    assert "widened" in report["note"] and set(report["out_levels"]) > {4, 5}


def test_records_put_in_stand_where_the_others_stood(sets, arms):
    train, _ = sets
    place = {item.id: k for k, item in enumerate(train)}
    for arm in arms.values():
        swapped = dict(arm.pairs)
        assert arm.order == [swapped.get(i.id, i.id) for i in train]
        assert all(arm.order[place[o]] == i for o, i in arm.pairs)


def test_an_arm_does_not_depend_on_the_order_of_its_files_and_does_on_its_seed(sets):
    train, pool = sets
    again = make_arm("flip", train, pool[::-1])
    assert set(again.pairs) == set(make_arm("flip", train, pool).pairs)
    assert set(make_arm("flip", train[::-1], pool).pairs) == set(again.pairs)
    assert set(make_arm("flip", train, pool, seed=1).in_ids) != set(again.in_ids)


def test_token_matching_takes_no_more_of_the_extremes_than_it_must(sets, arms):
    lengths = {i.id: i.n_response_tokens for s in sets for i in s}
    hard = [i.id for i in sets[1] if i.domain == "math" and i.difficulty >= 4]
    put = {i for i in arms["flip"].in_ids if i.startswith("p-math")}
    leanest = set(sorted(hard, key=lengths.__getitem__)[: len(put)])
    assert put != leanest
    assert max(lengths[i] for i in put) > max(lengths[i] for i in leanest)


def test_the_manifest_is_json_and_adds_up(sets, arms):
    known = {i.id: i for s in sets for i in s}
    for arm in arms.values():
        manifest = json.loads(json.dumps(arm.manifest))
        assert [(c["out"], c["in"]) for c in manifest["changes"]] == list(arm.pairs)
        for domain, report in manifest["domains"].items():
            changes = [c for c in manifest["changes"] if c["domain"] == domain]
            change = sum(c["tokens_in"] - c["tokens_out"] for c in changes)
            assert report["tokens_after"] - report["tokens_before"] == change
            assert sum(report["levels_after"].values()) == sum(report["levels_before"].values())
            for line in changes:
                assert known[line["out"]].domain == known[line["in"]].domain == domain and line["reason"]


@pytest.mark.parametrize("name", ARM_NAMES)
@pytest.mark.parametrize("token_matched", [True, False])
def test_length_matched_pairs_are_within_ten_percent_and_the_rest_is_counted(sets, name, token_matched):
    known = {i.id: i for s in sets for i in s}
    arm = make_arm(name, *sets, length_matched=True, token_matched=token_matched)
    for out_id, in_id in arm.pairs:
        out = known[out_id].n_response_tokens
        assert abs(known[in_id].n_response_tokens - out) <= 0.1 * out + 1e-9
    assert len(arm.pairs) + arm.manifest["n_unmatched"] == 240


def test_length_matched_flip_and_control_share_their_out_set(sets):
    flip = make_arm("flip", *sets, length_matched=True)
    assert set(flip.out_ids) == set(make_arm("same-difficulty-swap", *sets, length_matched=True).out_ids)


def test_untouched_domains_stay(sets):
    train, pool = sets
    extra = [ArmItem("x", "chat", None, 10)]
    arm = make_arm("flip", [*train, *extra], pool)
    assert arm.order[-1] == "x" and arm.manifest["untouched_domains"] == ["chat"]


def case(train=None, pool=None, name="flip", **settings_):
    def run(sets):
        return make_arm(name, train(sets[0]) if train else sets[0], pool(sets[1]) if pool else sets[1], **settings_)

    return run


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (case(name="flop"), "unknown arm 'flop'"),
        (case(fraction=0), "fraction is 0"),
        (case(fraction=0.0001), "changes nothing"),
        (case(fraction=0.9), "short"),
        (case(easy=(1, 2), hard=(2, 3)), "disjoint"),
        (case(pool=lambda p: [i for i in p if i.domain == "math"]), "no record of domain 'code'"),
        (
            case(pool=lambda p: [i for i in p if i.difficulty != 5][:300] + [i for i in p if i.domain == "code"]),
            "short",
        ),
        (case(hard=(7, 8)), "the bin is empty; choose other easy or hard levels"),
        (case(train=lambda t: [*t, t[0]]), "twice in train"),
        (case(pool=lambda p: [*p, ArmItem("t-math-0", "math", 1, 9)]), "both train and pool"),
        (case(train=lambda t: [*t, ArmItem("z", "math", None, 9)]), "'z' has no difficulty"),
        (case(train=lambda t: [*t, ArmItem("z", "math", 1, 0)]), "'z' has 0 response tokens"),
        (case(domains={"math": "upward"}), "'upward' is unknown"),
        (case(domains={}), "`domains` is empty"),
    ],
)
def test_what_cannot_be_swapped_is_refused_in_words(sets, run, words):
    with pytest.raises(InputError, match=words):
        run(sets)


def test_tokens_that_cannot_match_say_how_far_off_and_which_fraction_would_do():
    rng = np.random.default_rng(0)
    train = items("t", "math", 300, SKEW, rng, slope=40, spread=30)
    pool = items("p", "math", 300, (1,) * 5, rng, slope=40, spread=30)
    with pytest.raises(InputError, match=r"tokens \(\d+\.\d%\) apart; set `fraction` to at most (0\.\d+)") as refusal:
        make_arm("flip", train, pool, domains={"math": "harder"})
    works = float(str(refusal.value).split("at most ")[1].split(",")[0])
    assert isinstance(make_arm("flip", train, pool, domains={"math": "harder"}, fraction=works), Arm)
    with pytest.raises(InputError):
        make_arm("flip", train, pool, domains={"math": "harder"}, fraction=works + 0.02)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), slope=st.floats(0, 20), spread=st.floats(1, 60), fraction=st.floats(0.02, 0.5))
def test_whatever_the_lengths_an_arm_keeps_its_promises_or_refuses(seed, slope, spread, fraction):
    rng = np.random.default_rng(seed)
    train = items("t", "math", 120, SKEW, rng, slope, spread)
    pool = items("p", "math", 120, (1,) * 5, rng, slope, spread)
    total = sum(i.n_response_tokens for i in train)
    lengths = {i.id: i.n_response_tokens for i in (*train, *pool)}
    for name in ARM_NAMES:
        try:
            arm = make_arm(name, train, pool, fraction=fraction, seed=seed, domains={"math": "harder"})
        except InputError:
            continue
        assert len(arm.pairs) == round(fraction * 120)
        assert abs(sum(lengths[i] for i in arm.order) - total) <= 0.01 * total
