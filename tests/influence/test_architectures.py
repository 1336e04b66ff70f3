"""Every kind of weight and attention, each against explicit per-token gradients in float64."""

import numpy as np
import pytest
import torch

from infra.errors import InputError, ModelError
from infra.influence import (
    MeanLogLikelihood,
    example_influence,
    fit_ekfac,
    gradient,
    token_influence,
)
from infra.models import tracked_weights
from tests.influence import toys

SMALL = {"vocab_size": toys.VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "initializer_range": 0.4}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=toys.VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=32, initializer_range=0.4)
    )


def mixtral():
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(
        MixtralConfig(**SMALL, **HEADS, intermediate_size=12, num_local_experts=4, num_experts_per_tok=2)
    )


def qwen3_moe():
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            **SMALL,
            **HEADS,
            head_dim=4,
            intermediate_size=24,
            moe_intermediate_size=12,
            num_experts=4,
            num_experts_per_tok=2,
        )
    )


def gpt_oss():
    from transformers import GptOssConfig, GptOssForCausalLM

    return GptOssForCausalLM(
        GptOssConfig(
            **SMALL,
            **HEADS,
            head_dim=4,
            intermediate_size=12,
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=4,
            layer_types=["sliding_attention", "full_attention"],
            attn_implementation="eager",
        )
    )


def gemma2():
    """Softcapped attention scores and logits, alternating sliding windows, a query scale of its own."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2ForCausalLM(
        Gemma2Config(
            **SMALL,
            **HEADS,
            head_dim=4,
            intermediate_size=24,
            sliding_window=4,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=5.0,
            query_pre_attn_scalar=3,
            attn_implementation="eager",
        )
    )


def sliding():
    return toys.qwen2(use_sliding_window=True, sliding_window=3, max_window_layers=1)


def lora():
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=3, target_modules=["gate_proj", "down_proj", "q_proj"], init_lora_weights=False)
    return get_peft_model(toys.qwen2(), config)


def tied():
    """Two layers with one and the same gate projection."""
    model = toys.qwen2()
    model.model.layers[1].mlp.gate_proj.weight = model.model.layers[0].mlp.gate_proj.weight
    return model


BUILDERS = {
    "Conv1D with bias": (gpt2, "all"),
    "linear with bias": (toys.qwen2, "attention"),
    "Mixtral experts": (mixtral, "mlp"),
    "Qwen3-MoE experts": (qwen3_moe, "mlp"),
    "GPT-OSS experts, sinks, window": (gpt_oss, "mlp"),
    "sliding window": (sliding, "all"),
    "Gemma 2, softcapped": (gemma2, "all"),
    "LoRA": (lora, "all"),
    "tied weights": (tied, "mlp"),
    "output head": (lambda: toys.qwen2(tie_word_embeddings=False), r"lm_head|layers\.1\.mlp"),
}


def build(kind):
    torch.manual_seed(0)
    make, pattern = BUILDERS[kind]
    model = make().double().eval()
    return model, tracked_weights(model, pattern)


@pytest.mark.parametrize("kind", BUILDERS)
def test_scores_and_gradients_are_those_of_autograd(kind):
    model, tracked = build(kind)
    items = [toys.example(f"r{k}", n, p, k) for k, (n, p) in enumerate([(9, 3), (6, 1), (7, 4)])]
    directions = [toys.direction(tracked.parameters, k) for k in range(2)]
    oracle = [toys.oracle_scores(model, item, directions) for item in items]
    sums = np.array([o.sum(1) for o in oracle])
    tolerance = 1e-10
    forward = {i: s for c in token_influence(model, items, directions) for i, s in zip(c.indices, c.scores)}
    assert toys.error(np.concatenate([forward[i] for i in range(3)], 1), np.concatenate(oracle, 1)) < tolerance
    assert toys.error(example_influence(model, items, directions), sums) < tolerance
    positions = token_influence(model, items, directions, decomposition="position")
    summed = {i: s.sum(1) for c in positions for i, s in zip(c.indices, c.scores)}
    assert toys.error([summed[i] for i in range(3)], sums) < tolerance
    if "GPT-OSS" not in kind:
        assert toys.error(example_influence(model, items, directions, packed=True), sums) < tolerance
    target = gradient(model, MeanLogLikelihood("f", items, "summed"), tracked)
    assert toys.error([target.dot(d) for d in directions], sums.mean(0)) < tolerance


@pytest.mark.parametrize("kind", ["Conv1D with bias", "GPT-OSS experts, sinks, window", "tied weights", "LoRA"])
def test_ekfac_eigenvalues_of_every_block(kind):
    """The mean squared rotated gradient of each sequence, biases as a last column, experts and ties included."""
    model, tracked = build(kind)
    items = [toys.example(f"r{k}", 5, 2, k) for k in range(3)]
    fitted = fit_ekfac(model, items, tracked, fisher="empirical")
    summed = []
    for item in items:
        tokens = toys.token_gradients(model, item, list(tracked.names))
        summed.append({name: sum(g[name] for g in tokens) for name in tracked.names})
    for block in tracked.blocks:
        factor = fitted.factors[block.key]
        expected = torch.stack([factor.rotate(block.matrix(g)) for g in summed]).square().mean(0)
        if expected.norm() > 0:
            assert toys.error(factor.eigenvalues, expected) < 1e-9
        else:
            assert float(factor.eigenvalues.norm()) < 1e-20


def test_packing_is_refused_where_the_model_lets_documents_see_each_other():
    """GPT-OSS in transformers makes its masks without the position ids; our own attention does not need them."""
    model, tracked = build("GPT-OSS experts, sinks, window")
    items = [toys.example(f"r{k}", n, 2, k) for k, n in enumerate([9, 6, 7])]
    directions = [toys.direction(tracked.parameters, 0)]
    with pytest.raises(ModelError, match="packed documents see each other"):
        example_influence(model, items, directions, packed=True)
    found = {i: s for c in token_influence(model, items, directions, packed=True) for i, s in zip(c.indices, c.scores)}
    for i, item in enumerate(items):
        assert toys.error(found[i], toys.oracle_scores(model, item, directions)) < 1e-10


def test_what_cannot_be_tracked_is_refused_by_name():
    model = toys.qwen2()
    with pytest.raises(ModelError, match=r"model\.embed_tokens\.weight: it is shared by modules of different kinds"):
        tracked_weights(model, "embed_tokens")
    with pytest.raises(ModelError, match=r"model\.norm\.weight: a weight of Qwen2RMSNorm is no linear map"):
        tracked_weights(model, r"model\.norm")
    with pytest.raises(InputError, match="matches no trackable weight"):
        tracked_weights(model, "nothing_like_it")
    with pytest.raises(InputError, match="no regular expression"):
        tracked_weights(model, "(")


def test_routers_are_left_out_and_listed():
    model, tracked = build("Qwen3-MoE experts")
    assert sorted(tracked.left_out) == ["model.layers.0.mlp.gate.weight", "model.layers.1.mlp.gate.weight"]
    with pytest.raises(ModelError, match="router"):
        tracked_weights(model, r"mlp\.gate")


def test_coverage_is_the_share_of_parameters():
    model = toys.qwen2()
    tracked = tracked_weights(model, "mlp")
    assert tracked.size == 2 * 3 * 16 * 24
    assert tracked.coverage == tracked.size / sum(p.numel() for p in model.parameters())
    assert "% of the model" in str(tracked)
    assert len(tracked_weights(build("LoRA")[0], "mlp")) == 8


def test_a_tied_output_head_is_refused_under_both_of_its_names():
    for pattern in ("lm_head", "embed_tokens"):
        with pytest.raises(ModelError, match=r"shared by modules of different kinds \(model\.embed_tokens.*lm_head"):
            tracked_weights(toys.qwen2(), pattern)


def test_a_tied_layer_can_be_named_by_its_second_place():
    model = tied()
    found = tracked_weights(model, r"layers\.1\.mlp\.gate_proj")
    assert found.names == ("model.layers.0.mlp.gate_proj.weight",)
    assert found.weights[0].modules == ("model.layers.0.mlp.gate_proj", "model.layers.1.mlp.gate_proj")


def test_adapters_that_are_no_product_with_the_tokens_are_refused_by_name():
    from peft import LoraConfig, get_peft_model

    dora = get_peft_model(toys.qwen2(), LoraConfig(r=2, target_modules=["gate_proj"], use_dora=True))
    with pytest.raises(ModelError, match=r"gate_proj\.lora_A\.default\.weight: it belongs to a Dora"):
        tracked_weights(dora, "mlp")
    config = LoraConfig(r=2, target_modules=[], target_parameters=["mlp.experts.gate_up_proj"])
    fused = get_peft_model(qwen3_moe().double(), config)
    with pytest.raises(ModelError, match=r"experts\.lora_A\.default\.weight: it adapts a fused parameter"):
        tracked_weights(fused, "mlp")
    off = lora()
    off.base_model.disable_adapter_layers()
    with pytest.raises(ModelError, match="adapter 'default' is not active"):
        tracked_weights(off, "mlp")


class Gate(torch.autograd.Function):
    """A fused kernel as libraries ship them: forward and backward, no forward derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return grad * (s + x * s * (1 - s))


class FusedActivation(torch.nn.Module):
    def forward(self, x):
        return Gate.apply(x)


def test_a_module_without_a_forward_derivative_is_refused_by_name_before_any_work():
    model, items = toys.qwen2(), toys.examples(3)
    model.model.layers[1].mlp.act_fn = FusedActivation()
    directions = [toys.direction(tracked_weights(model).parameters, k) for k in range(2)]
    with pytest.raises(ModelError, match=r"model\.layers\.1\.mlp\.act_fn \(FusedActivation\) has no forward deriv"):
        next(token_influence(model, items, directions))
    found = {
        i: s
        for c in token_influence(model, items, directions, decomposition="position")
        for i, s in zip(c.indices, c.scores)
    }
    plain = toys.qwen2()
    for i, item in enumerate(items):
        assert toys.error(found[i].sum(1), toys.oracle_scores(plain, item, directions).sum(1)) < 1e-10


def test_attention_of_another_kind_is_refused_before_any_work():
    """BLOOM adds a position bias inside its own attention; a chunked mask is neither causal nor a sliding window."""
    from transformers import BloomConfig, BloomForCausalLM
    from transformers.masking_utils import chunked_causal_mask_function

    from infra.influence.engine.attention import window_mask

    torch.manual_seed(0)
    config = BloomConfig(vocab_size=toys.VOCABULARY, hidden_size=16, n_layer=2, n_head=2, initializer_range=0.4)
    model = BloomForCausalLM(config).double().eval()
    for layer in model.transformer.h:
        layer.mlp.gelu_impl = torch.nn.GELU(approximate="tanh")  # its own has no forward derivative either
    directions = [toys.direction(tracked_weights(model).parameters, 0)]
    with pytest.raises(ModelError, match="BloomForCausalLM does not run its attention through"):
        next(token_influence(model, toys.examples(3), directions))
    positions = token_influence(model, toys.examples(3), directions, decomposition="position")
    for chunk in positions:
        for i, scores in zip(chunk.indices, chunk.scores):
            expected = toys.oracle_scores(model, toys.examples(3)[i], directions)
            assert toys.error(scores.sum(1), expected.sum(1)) < 1e-10
    chunked = chunked_causal_mask_function(4, torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ModelError, match="neither causal nor a causal sliding window"):
        window_mask(q_length=12, local_size=4, mask_function=chunked)


def test_a_weight_that_is_not_called_as_a_layer_is_refused_by_name():
    model, items = toys.qwen2(), toys.examples(2)
    mlp = model.model.layers[0].mlp
    inner = lambda x: mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)  # noqa: E731
    mlp.forward = lambda x: torch.nn.functional.linear(inner(x), mlp.down_proj.weight)
    directions = [toys.direction(tracked_weights(model).parameters, 0)]
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.down_proj\.weight is not called as a layer"):
        example_influence(model, items, directions)


def test_the_engines_attention_has_no_backward_pass_and_says_so():
    from infra.influence.engine.attention import forward_attention

    model = toys.qwen2()
    with forward_attention(model), pytest.raises(ModelError, match="has a forward derivative and no backward pass"):
        model(input_ids=torch.arange(4)[None]).logits.sum().backward()
