"""Models: loading one, saying which one it is, and naming the weights that attribution looks at."""

from infra.models.hashing import generation_config_hash, model_hash, tokenizer_hash
from infra.models.hub import model_folder
from infra.models.limits import Limits
from infra.models.load import load_model, load_tokenizer
from infra.models.named import is_named_model, model_place
from infra.models.precision import deterministic, float64_everywhere
from infra.models.tracked import Block, TrackedWeight, TrackedWeights, tracked_by_names, tracked_weights

__all__ = [
    "Block",
    "Limits",
    "TrackedWeight",
    "TrackedWeights",
    "deterministic",
    "float64_everywhere",
    "generation_config_hash",
    "is_named_model",
    "load_model",
    "load_tokenizer",
    "model_folder",
    "model_hash",
    "model_place",
    "tokenizer_hash",
    "tracked_by_names",
    "tracked_weights",
]
