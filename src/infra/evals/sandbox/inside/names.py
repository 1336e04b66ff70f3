"""Whose names are whose in tests that are code: the tests', Python's, a library's or the program's.

Read from the tests alone, so that a program cannot change it by what it defines.
"""

from __future__ import annotations

import ast
import builtins
import importlib
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
_MODULES = (
    "bisect",
    "cmath",
    "collections",
    "copy",
    "datetime",
    "decimal",
    "fractions",
    "functools",
    "heapq",
    "itertools",
    "json",
    "math",
    "numpy",
    "operator",
    "random",
    "re",
    "statistics",
    "string",
    "sys",
    "time",
)
_MODULE_OF = {**{name: name for name in _MODULES}, "np": "numpy"}


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
    own = free - _modules(free, trees)
    own = {n for n in own if n not in _HOME} or own
    return sorted(own) if own else sorted({n for tree in trees for n in _outermost(tree)})


def root(entry_point: str) -> str:
    """The name that an entry point begins with: ``Solution`` of ``Solution().twoSum``."""
    return entry_point.split(".")[0].split("(")[0].strip()


def borrowed(trees: Sequence[ast.Module], taken: Sequence[str]) -> dict[str, Any]:
    """The libraries' objects under the free names of ``trees`` that the program does not supply."""
    free = _free(trees) - set(taken)
    modules = {name: _module(_MODULE_OF[name]) for name in _modules(free, trees)}
    return {**modules, **{n: getattr(_module(_HOME[n]), n) for n in free if n in _HOME}}


def _modules(free: set[str], trees: Sequence[ast.Module]) -> set[str]:
    """Free names that stand for a library's module: they are used as ``name.attribute`` only, with its attributes."""
    nodes = [n for tree in trees for n in ast.walk(tree)]
    dotted = [n for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
    used: dict[str, set[str]] = {}
    for node in dotted:
        used.setdefault(node.value.id, set()).add(node.attr)  # type: ignore[attr-defined]
    bases = {id(n.value) for n in dotted}
    alone = {n.id for n in nodes if isinstance(n, ast.Name) and id(n) not in bases}
    named = {n for n in free & set(used) - alone if n in _MODULE_OF}
    return {n for n in named if all(hasattr(_module(_MODULE_OF[n]), a) for a in used[n])}


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:  # numpy is not everywhere
        return None


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


def _outermost(tree: ast.Module) -> list[str]:
    found = []
    for statement in tree.body:
        if isinstance(statement, ast.Assert):
            test = statement.test.left if isinstance(statement.test, ast.Compare) else statement.test
            if isinstance(test, ast.Call) and isinstance(test.func, ast.Name):
                found.append(test.func.id)
    return found
