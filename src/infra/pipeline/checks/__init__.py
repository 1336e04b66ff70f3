"""Everything cheap is checked before anything heavy begins: one check a small function, all problems in one message.

A check looks at a :class:`Subject` and gives each problem as the error that it would become later. :data:`CHECKS` lists
them in the order in which problems are told. Those of :data:`OF_THE_MODEL` come last: where the others find something,
a model that is not here is not fetched for them.
"""

from infra.pipeline.checks import data, model, place, room, servers, tasks
from infra.pipeline.checks.evaluation import EVAL_CHECKS, Evaluation, check_evaluation
from infra.pipeline.checks.run import Check, problems, refuse
from infra.pipeline.checks.subject import Subject

CHECKS: tuple[Check[Subject], ...] = (
    place.output_folder,
    model.method,
    model.device,
    model.extras,
    model.validation,
    tasks.tasks,
    tasks.sandbox,
    data.rows,
    data.domains,
    data.attributes,
    data.arms,
    servers.servers,
)
OF_THE_MODEL: tuple[Check[Subject], ...] = (
    model.files,
    model.directions,
    model.tracked,
    data.lengths,
    tasks.answers,
    room.enough_memory,
    room.enough_disk,
)
OF_VALIDATION: tuple[Check[Subject], ...] = (place.output_folder, model.extras, model.validation, model.recorded)


def check(subject: Subject) -> None:
    """Raise one error that lists every problem of a job that is about to run; nothing is written."""
    found = problems(subject, CHECKS)
    subject.fetch = subject.fetch and not found
    refuse([*found, *problems(subject, OF_THE_MODEL)])


def check_validation(subject: Subject) -> None:
    """Raise one error that lists every problem of the validation of a finished run; nothing is written."""
    refuse(problems(subject, OF_VALIDATION))


__all__ = [
    "CHECKS",
    "EVAL_CHECKS",
    "OF_THE_MODEL",
    "OF_VALIDATION",
    "Evaluation",
    "Subject",
    "check",
    "check_evaluation",
    "check_validation",
]
