"""What `--dry-run` prints: what a job needs, and every stage with its state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.pipeline.checks import Subject
    from infra.pipeline.stage import Stage


def print_plan(subject: Subject, stages: Callable[[], list[Stage]]) -> None:
    """Print what is needed and every stage with its state, as far as that can be said, then check everything.

    Nothing is run and nothing fetched. Raises what the checks find.
    """
    from rich.console import Console
    from rich.table import Table

    from infra.errors import InfraError
    from infra.pipeline import plan_table
    from infra.pipeline.checks import check
    from infra.pipeline.needs import needs_table
    from infra.store import RunFolder

    console = Console()
    needs, plan = Table("needed", title=subject.recipe.name), Table("stage", "state", "reads")
    needs.add_column("where", overflow="fold")
    needs.add_column("state")
    with suppress(InfraError):  # what cannot be listed is what the checks find
        for row in needs_table(subject.recipe):
            needs.add_row(*row)
        console.print(needs)
        for row in plan_table(stages(), RunFolder(subject.folder)):
            plan.add_row(*row)
        plan.title = f"{plan.row_count} stages -> {subject.folder}"
        console.print(plan)
    check(subject)
    print("everything that can be checked beforehand is in order; nothing was run")
