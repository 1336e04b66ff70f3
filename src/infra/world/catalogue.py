"""All operations that code tasks are composed of, in their fixed order."""

from __future__ import annotations

from infra.world.code_ops import CodeOp
from infra.world.ops_lists import LIST_OPS
from infra.world.ops_numbers import NUMBER_OPS
from infra.world.ops_texts import TEXT_OPS

CODE_OPS: tuple[CodeOp, ...] = (*NUMBER_OPS, *LIST_OPS, *TEXT_OPS)
CODE_OP = {op.name: op for op in CODE_OPS}
