"""Checking mathematical answers by value."""

from infra.evals.mathcheck._extract import final_answer, last_boxed
from infra.evals.mathcheck._number import exact_value
from infra.evals.mathcheck._pool import MathPool, grade_answers

__all__ = ["MathPool", "exact_value", "final_answer", "grade_answers", "last_boxed"]
