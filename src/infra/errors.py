"""Errors a user can act on: each says what is wrong, where, and what to do.

Every room raises subclasses of :class:`InfraError`; the command line prints the sentence and exits with the
error's ``exit_code``. A bare Python exception that reaches the user is a bug of ours.
"""


class InfraError(Exception):
    """Base of every error that is the input's or the environment's fault, not a bug. Exit code 1."""

    exit_code = 1


class InputError(InfraError):
    """Unreadable, empty, truncated or malformed input. The message names file, line and record. Exit code 2."""

    exit_code = 2


class RecipeError(InputError):
    """An unknown key or a value out of range in a recipe. Exit code 2."""


class ArtifactError(InfraError):
    """An artifact is missing, damaged or belongs to other inputs. The message names the file. Exit code 3."""

    exit_code = 3


class ModelError(InfraError):
    """A model cannot be used as asked: weights that cannot be tracked, another hash, non-finite gradients."""

    exit_code = 4


class ResourceError(InfraError):
    """Out of memory, disk or the time asked for. The message says what to set. Exit code 5."""

    exit_code = 5


class PlanTooLong(ResourceError):
    """A subset plan would take longer than asked; the message holds the estimate. Exit code 5."""
