"""Running code that a model wrote: contained, judged from outside, many programs per launch."""

from infra.evals.sandbox._host import BACKENDS, backends, choose, describe
from infra.evals.sandbox._pool import Job, Limits, Ran, Sandbox, run_jobs

__all__ = ["BACKENDS", "Job", "Limits", "Ran", "Sandbox", "backends", "choose", "describe", "run_jobs"]
