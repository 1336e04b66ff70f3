"""Steps, behaviours and token classes: what the scores of tokens are added up over."""

from infra.spans.agreement import cohen_kappa, label_kappa
from infra.spans.align import spans_to_tokens, sum_over, token_positions
from infra.spans.behaviours import LABELS, behaviours
from infra.spans.judge import Judge, JudgeError, JudgeItem, judge_behaviours
from infra.spans.lexicon import CONNECTIVES
from infra.spans.parts import parts
from infra.spans.regions import Region, regions
from infra.spans.segment import RULES, steps
from infra.spans.token_classes import CLASSES, token_classes
from infra.spans.values import stated_answer

__all__ = [
    "CLASSES",
    "CONNECTIVES",
    "LABELS",
    "RULES",
    "Judge",
    "JudgeError",
    "JudgeItem",
    "Region",
    "behaviours",
    "cohen_kappa",
    "judge_behaviours",
    "label_kappa",
    "parts",
    "regions",
    "spans_to_tokens",
    "stated_answer",
    "steps",
    "sum_over",
    "token_classes",
    "token_positions",
]
