"""Effects with intervals, length control, arm contrasts and hypotheses."""

from infra.analysis.arms import MAIN_CONTROL, accuracy_table, arm_contrasts, strategy_contrasts
from infra.analysis.definitions import definition_agreement
from infra.analysis.effects import COLUMNS, domain_means, effects
from infra.analysis.folds import target_folds
from infra.analysis.hypotheses import PAPER, Hypothesis, hypotheses, with_bands
from infra.analysis.permutation import permutation_test, span_permutation_test
from infra.analysis.predicted import MIN_SWAPS, predicted_vs_measured, swap_correlation
from infra.analysis.ranking import Strongest, target_agreement, top_bottom
from infra.analysis.span_effects import span_effects

__all__ = [
    "COLUMNS",
    "MAIN_CONTROL",
    "MIN_SWAPS",
    "PAPER",
    "Hypothesis",
    "Strongest",
    "accuracy_table",
    "arm_contrasts",
    "definition_agreement",
    "domain_means",
    "effects",
    "hypotheses",
    "permutation_test",
    "predicted_vs_measured",
    "span_effects",
    "span_permutation_test",
    "strategy_contrasts",
    "swap_correlation",
    "target_agreement",
    "target_folds",
    "top_bottom",
    "with_bands",
]
