"""Weighted supervised fine-tuning: a summed loss under a fixed normaliser, so that subsets add up."""

from infra.train.config import SFTConfig
from infra.train.plan import data_order, learning_rate_factor, padded_groups, step_indices
from infra.train.run import SFTResult, fine_tune, mean_response_tokens

__all__ = [
    "SFTConfig",
    "SFTResult",
    "data_order",
    "fine_tune",
    "learning_rate_factor",
    "mean_response_tokens",
    "padded_groups",
    "step_indices",
]
