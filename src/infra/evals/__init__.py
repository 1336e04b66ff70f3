"""Benchmarks: problems in, verified responses and accuracy with intervals out."""

from infra.evals._code_blocks import last_code_block, program_of
from infra.evals._evaluate import evaluate, prompts_of, split_name
from infra.evals._grade_file import GradeSummary, grade_file
from infra.evals._grade_rows import Graded, GradeSettings, grade_rows
from infra.evals._metrics import accuracy_by, avg_at_k, majority_vote, pass_at_k
from infra.evals._ratings import (
    Ratings,
    interval_alpha,
    judge_difficulty,
    label_ratings,
    parse_rating,
)
from infra.evals._run import EvalSettings, run_eval
from infra.evals._types import EvalRow, Verdict
from infra.evals._verify import verify, verify_many
from infra.evals.tasks import Task, from_list, get_task, register
from infra.intervals import Interval, accuracy_interval

__all__ = [
    "EvalRow",
    "EvalSettings",
    "GradeSettings",
    "GradeSummary",
    "Graded",
    "Interval",
    "Ratings",
    "Task",
    "Verdict",
    "accuracy_by",
    "accuracy_interval",
    "avg_at_k",
    "evaluate",
    "from_list",
    "get_task",
    "grade_file",
    "grade_rows",
    "interval_alpha",
    "judge_difficulty",
    "label_ratings",
    "last_code_block",
    "majority_vote",
    "parse_rating",
    "pass_at_k",
    "program_of",
    "prompts_of",
    "register",
    "run_eval",
    "split_name",
    "verify",
    "verify_many",
]
