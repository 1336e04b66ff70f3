"""What a parsed program defines, does and lacks."""

from __future__ import annotations

import ast
import builtins
import importlib
from functools import lru_cache

from infra.evals.sandbox.inside.prelude import STARRED


def defined(tree: ast.Module, methods: bool) -> set[str]:
    """Names bound at the top of the program; with ``methods``, in its classes, too."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            if not isinstance(node, ast.ClassDef) or not methods:
                continue
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        if not isinstance(node, ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


def does_something(tree: ast.Module) -> bool:
    """Whether it could be a program: sample output such as ``3`` or ``YES`` parses as Python, too."""
    defining = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return any(isinstance(n, ast.Call | defining | ast.Assign | ast.alias) for n in ast.walk(tree))


def lacks_names(tree: ast.Module) -> bool:
    """Whether it reads a name that it binds nowhere: a call of what an earlier block defines."""
    read: set[str] = set()
    bound: set[str] = {"__name__", "__file__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.alias):
            if node.name == "*":
                return False
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        else:
            bound.add(str(getattr(node, "name", "")))
    return bool(read - bound - _given())


@lru_cache(maxsize=1)
def _given() -> frozenset[str]:
    """Names that a program finds without binding them: builtins, and LiveCodeBench's imports."""
    modules = [importlib.import_module(name) for name in STARRED]
    return frozenset(dir(builtins)).union(STARRED, *(dir(module) for module in modules))
