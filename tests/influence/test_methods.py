"""The registry, and what every method has in common: token sums, saving, and clear errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from infra.errors import ArtifactError, InputError
from infra.influence import FunctionTarget, MeanLogLikelihood, example_influence, gradient, log_likelihoods
from infra.influence.methods import Engine, MethodContext, get_method, method_names
from infra.influence.methods.repsim import representations
from infra.models import float64_everywhere, tracked_weights
from infra.train import SFTConfig
from infra.train.flat_model import flat_model
from infra.train.recorded import RecordedRun
from infra.train.replay import plan_of_sft
from tests.influence import toys

EXAMPLES_ONLY = {"bm25", "repsim", "less"}
QUICK = {"ekfac_cg": {"steps": 3}, "trak": {"rank": 5}, "less": {"rank": 5}, "trackstar": {"rank": 3}}


def worded(items, text):
    return [replace(e, text=f"{text} word{i}") for i, e in enumerate(items)]


@pytest.fixture(scope="module")
def context():
    """A tiny model at the end of a recorded run of four steps, six examples, two targets of two queries each."""
    model, train = toys.qwen2(), worded(toys.examples(6), "train")
    queries = worded([e for e in toys.examples(6, seed=1) if e.n_response_tokens][:4], "train asks")
    config = SFTConfig(learning_rate=1e-2, epochs=2, batch_size=3)
    run = RecordedRun(flat_model(model), plan_of_sft(config, len(train), 0, 20.0), train)
    trained = run.flat.into(run.trained())
    targets = [MeanLogLikelihood("a", queries[:2]), MeanLogLikelihood("b", queries[2:])]
    return MethodContext(Engine(trained, tracked_weights(trained), 30), train, targets, recorded=run)


def test_every_method_scores_and_says_the_same_from_a_folder(context, tmp_path):
    fresh = worded(toys.examples(3, seed=2), "other")
    for name in [*method_names(), "trak+seeds", "gradient+checkpoints"]:
        method = get_method(name, **QUICK.get(name.partition("+")[0], {}))
        fitted = method.fit(context)
        again = method.load(saved(fitted, tmp_path / name), context.engine)
        for items in [context.examples] if name.startswith("unrolled") else [context.examples, fresh]:
            found, loaded, plain = (
                sorted(f.scores(items, tokens), key=lambda s: s.index)
                for f, tokens in ((fitted, True), (again, True), (again, False))
            )
            assert [s.index for s in found] == list(range(len(items)))
            scale = max(float(np.abs(s.example).max()) for s in found)
            for item, one, two, three in zip(items, found, loaded, plain, strict=True):
                assert one.example.shape == (2,) and np.isfinite(one.example).all(), name
                assert np.array_equal(one.example, two.example), f"{name} says something else after loading"
                assert np.allclose(one.example, three.example, rtol=1e-8, atol=1e-10 * scale), name
                assert three.tokens is None and (one.tokens is None) == (name in EXAMPLES_ONLY), name
                if one.tokens is not None:
                    assert one.tokens.shape == (2, len(item)) and not one.tokens[:, ~item.loss_mask].any(), name
                    assert np.allclose(one.tokens.sum(1), one.example, rtol=1e-10, atol=1e-12 * scale), name


def saved(fitted, folder):
    fitted.save(folder)
    return folder


def test_the_model_is_left_as_it_was(context):
    before = {name: p.clone() for name, p in context.engine.model.named_parameters()}
    for name in ("less", "trak+checkpoints", "unrolled"):
        list(get_method(name, **QUICK.get(name.partition("+")[0], {})).fit(context).scores(context.examples, False))
    assert all(torch.equal(p, before[name]) for name, p in context.engine.model.named_parameters())


def scored(name, context, examples=None, **settings):
    """``[N, K]``."""
    items = context.examples if examples is None else examples
    rows = {s.index: s.example for s in get_method(name, **settings).fit(context).scores(items, False)}
    return np.stack([rows[i] for i in range(len(items))])


def test_cosine_is_one_for_the_target_itself(context):
    targets = [MeanLogLikelihood("first", context.examples[:1])]
    cosines = scored("cosine", replace(context, targets=targets, shared={}))[:, 0]
    assert cosines[0] == pytest.approx(1.0) and (np.abs(cosines) <= 1 + 1e-12).all()


def test_bm25_by_hand(context):
    """Two documents, 'a a b' and 'c'; query 'A': idf log(1 + 1.5/1.5), tf 2, lengths 3 against a mean of 2."""
    texts = {"x": "a a b", "y": "c", "q": "A"}
    x, y, q = (replace(toys.example(name, 4, 2, 0), text=text) for name, text in texts.items())
    expected = np.log(2.0) * 2 * 2.5 / (2 + 1.5 * (0.25 + 0.75 * 1.5))
    found = scored("bm25", replace(context, examples=[x, y], targets=[MeanLogLikelihood("q", [q])]))
    assert found[:, 0] == pytest.approx([expected, 0.0])


def test_loss_is_the_negative_log_likelihood_and_length_the_number_of_tokens(context):
    losses = -log_likelihoods(context.engine.model, context.examples)
    assert toys.error(scored("loss", context), np.stack([losses, losses], 1)) < 1e-12
    assert (scored("length", context)[:, 0] == [e.n_response_tokens for e in context.examples]).all()


def test_random_scores_depend_on_seed_and_record_alone(context):
    whole = scored("random", context)
    assert np.array_equal(scored("random", context, context.examples[3:]), whole[3:])
    assert not np.array_equal(scored("random", replace(context, seed=1)), whole)


def test_representations_are_means_over_the_responses_own_tokens(context):
    model, train = context.engine.model, context.examples
    for item, found in zip(train, representations(model, train, max_tokens=30)):
        with float64_everywhere(), torch.no_grad():
            hidden = model.model(input_ids=torch.from_numpy(item.input_ids)[None])[0][0]
        assert toys.error(found, hidden[torch.from_numpy(item.loss_mask)].mean(0)) < 1e-12


def test_unrolled_scores_exist_for_what_was_trained_on_only(context):
    with pytest.raises(InputError, match="record r0 was not trained on"):
        scored("unrolled", context, toys.examples(1, seed=5))


def test_without_a_recorded_run_methods_that_follow_it_say_so(context):
    bare = replace(context, recorded=None, shared={})
    for name in ("unrolled", "less", "ekfac+seeds", "gradient+checkpoints"):
        with pytest.raises(InputError, match="none was recorded"):
            get_method(name).fit(bare)


def test_any_target_will_do_where_only_its_gradient_is_needed(context):
    """A target of the user's own; methods that look at queries refuse it by name."""
    target = FunctionTarget("own", lambda model, ids: model(ids[None]).logits.square().mean(), [torch.arange(4)])
    own = replace(context, targets=[target], shared={})
    engine = context.engine
    expected = example_influence(engine.model, own.examples, [gradient(engine.model, target, engine.tracked)])
    assert toys.error(scored("gradient", own), expected) < 1e-10
    assert np.isfinite(scored("trak", own, rank=4)).all()
    for name in ("bm25", "trackstar", "unrolled"):
        with pytest.raises(InputError, match="target 'own' is a FunctionTarget"):
            get_method(name).fit(own)


def test_unknown_names_and_settings_are_named(tmp_path):
    with pytest.raises(InputError, match=r"unknown method 'magic'; choose from bm25, .*trak"):
        get_method("magic")
    with pytest.raises(InputError, match="'ekfac' has no setting 'dampening'; it has damping, fisher"):
        get_method("ekfac", dampening=1)
    with pytest.raises(InputError, match="over 'seeds' or 'checkpoints', not 'moons'"):
        get_method("ekfac+moons")
    with pytest.raises(ArtifactError, match="fit it again"):
        get_method("trak").load(tmp_path, None)
