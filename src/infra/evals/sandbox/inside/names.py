"""Whose names are whose in tests that are code: the tests', Python's, a library's or the program's.

Read from the tests alone, so that a program cannot change it by what it defines.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

# what tests borrow from a program's imports; the judge takes its own
_HELPERS = {
    "collections": ("Counter", "OrderedDict", "defaultdict", "deque"),
    "copy": ("deepcopy",),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "itertools": ("chain", "islice"),
    "math": ("inf", "isclose", "nan", "pi", "sqrt"),
}
_HOME = {name: module for module, names in _HELPERS.items() for name in names}
_ALIASES = {"np": "numpy", "numpy": "numpy"}


def parts_of(tests: Mapping[str, Any]) -> list[str]:
    """The pieces of test code in the order in which they run. A program's setup is not among them."""
    if tests["kind"] == "asserts":
        return [tests.get("setup") or "", *tests["asserts"]]
    return [tests["code"], f"check({tests['entry_point']})"]


def supplied(tests: Mapping[str, Any]) -> list[str]:
    """Names that a program must define for these tests.

    With an entry point it is that name alone. For asserts it is every name that neither the tests nor Python
    define and that is not plainly a library's (``sys.getsizeof(...)``, ``Counter(...)`` beside the name of a
    tested function). Where tests use builtin names only (``assert sum(10, 15) == 6``), it is the function that
    an assert calls first of all. Raises ``SyntaxError`` or ``ValueError`` for tests that are not Python.
    """
    if tests.get("entry_point"):
        return [root(tests["entry_point"])]
    if tests["kind"] != "asserts":
        return []
    trees = [ast.parse(part) for part in parts_of(tests)]
    free = _free(trees)
    modules = {n for n in free if n in sys.stdlib_module_names or n in _ALIASES} - _not_only_dotted(trees)
    own = free - modules
    own = {n for n in own if n not in _HOME} or own
    return sorted(own) if own else sorted({n for tree in trees for n in _outermost(tree)})


def root(entry_point: str) -> str:
    """The name that an entry point begins with: ``Solution`` of ``Solution().twoSum``."""
    return entry_point.split(".")[0].split("(")[0].strip()


def borrowed(trees: Sequence[ast.Module], taken: Sequence[str]) -> dict[str, Any]:
    """The libraries' objects under the free names of ``trees`` that the program does not supply."""
    found: dict[str, Any] = {}
    for name in sorted(_free(trees) - set(taken)):
        try:
            if name in _HOME:
                found[name] = getattr(importlib.import_module(_HOME[name]), name)
            elif name in _ALIASES or name in sys.stdlib_module_names:
                found[name] = importlib.import_module(_ALIASES.get(name, name))
        except ImportError:
            continue
    return found


def _free(trees: Sequence[ast.Module]) -> set[str]:
    """Names that are read, bound nowhere in the trees, and no builtins."""
    read: set[str] = set()
    bound: set[str] = set()
    for node in (n for tree in trees for n in ast.walk(tree)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return {n for n in read - bound if not hasattr(builtins, n) and n[:2] != "__"}


def _not_only_dotted(trees: Sequence[ast.Module]) -> set[str]:
    """Names that are used otherwise than as ``name.attribute``."""
    nodes = [n for tree in trees for n in ast.walk(tree)]
    dotted = {id(n.value) for n in nodes if isinstance(n, ast.Attribute)}
    return {n.id for n in nodes if isinstance(n, ast.Name) and id(n) not in dotted}


def _outermost(tree: ast.Module) -> list[str]:
    found = []
    for statement in tree.body:
        if isinstance(statement, ast.Assert):
            test = statement.test.left if isinstance(statement.test, ast.Compare) else statement.test
            if isinstance(test, ast.Call) and isinstance(test.func, ast.Name):
                found.append(test.func.id)
    return found
