"""Equality of expressions and equations in sympy: exact where it can be shown, else by value at random points.

A formula that a grader compares at positive points only takes ``|x|`` for ``x``. Points here have both signs, and those
outside the domain of the reference (``\\sqrt x`` below zero) do not count.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

DIGITS = 40
MOST_NAMES = 12
MOST_DEGREE = 12
MOST_OPERATIONS = 40
Point = dict[Any, Any]


def same_value(gold: Any, answer: Any, domain: Any = None) -> bool | None:
    """Whether two scalar expressions are equal wherever the first has a real value.

    Args:
        gold: the reference; where it has a real value at some points, only those count, else all do.
        answer: what is compared with it.
        domain: a further expression that has to be defined at a point for it to count.

    Returns:
        True as far as random points can tell, False where a point tells them apart, None where they have no values.
    """
    import sympy

    if not isinstance(gold, sympy.Expr) or not isinstance(answer, sympy.Expr):
        return None
    if isinstance(gold, sympy.MatrixExpr) or isinstance(answer, sympy.MatrixExpr):
        return None
    if gold == answer:
        return True
    if gold.has(sympy.Sum, sympy.Product, sympy.Integral) or answer.has(sympy.Sum, sympy.Product, sympy.Integral):
        difference = (gold - answer).doit()
        if difference == 0:
            return True
        gold, answer = gold.doit(), answer.doit()
    real = not gold.has(sympy.I) and not answer.has(sympy.I)
    if real:
        gold, answer = _real_roots(gold), _real_roots(answer)
    difference = gold - answer
    if difference.is_Rational:
        return bool(difference == 0)
    names = sorted(difference.free_symbols, key=str)
    if len(names) > MOST_NAMES:
        return None
    points = list(_points(names, gold, answer))
    if real and names:
        inside = [p for p in points if _defined(gold, p) and (domain is None or _defined(domain, p))]
        points = inside or points
    judged = [_equal_at(gold, difference, point) for point in points]
    if False in judged:
        return False
    return True if True in judged else None


def _equal_at(gold: Any, difference: Any, point: Point) -> bool | None:
    """Whether the difference vanishes at a point, to 25 digits; None where one side has no value there."""
    import sympy

    scale = _number(gold.subs(point))
    if scale is None:
        return None
    size = float(sympy.log(abs(scale) + 1, 10).evalf(5))
    here = _number(difference.subs(point), 400 + int(size))
    # the difference itself is known to many digits, so the bound does not grow with large values
    return None if here is None else bool(abs(here) <= 10**-25 * (min(1, abs(scale)) or 1))


def _points(names: list[Any], *expressions: Any) -> Iterator[Point]:
    """Random rational points, in every combination of signs for up to three names; one empty point without names.

    A name that stands for a whole number (``n!``, ``(-1)^n``) is one, above zero. Rational functions that agree near a
    point agree everywhere, so they get three points.
    """
    import sympy

    rng = random.Random(20250519)
    if not names:
        yield {}
        return
    whole = set().union(*(_whole_numbers(e) for e in expressions))
    if not whole and all(e.is_rational_function(*names) for e in expressions):
        signs: list[tuple[int, ...]] = [(1,) * len(names)] * 3
    elif len(names) <= 3:
        signs = [*itertools.product((1, -1), repeat=len(names))]
        signs *= 3 if len(names) == 1 else 1 + (len(names) == 2)
    else:
        signs = [(1,) * len(names), (-1,) * len(names)]
        signs += [tuple(rng.choice((1, -1)) for _ in names) for _ in range(8)]
    for number, row in enumerate(signs):
        low, high = (401, 1997) if number < len(signs) // 2 + 1 else (11, 397)
        point = {n: sign * sympy.Rational(rng.randint(low, high), 401) for n, sign in zip(names, row)}
        for name in whole & set(names):
            point[name] = sympy.Integer(rng.randint(2, 9) + (11 if str(name) in ("n", "N", "m") else 0))
        yield point
    if len(signs) > 3 and not whole:  # where floors and signs jump
        for shift in (0, 1, -3):
            yield {name: sympy.Integer(shift * (i + 1)) for i, name in enumerate(names)}


def _whole_numbers(expression: Any) -> set[Any]:
    """Names under a factorial or binomial, or in the exponent of a negative number."""
    import sympy

    found: set[Any] = set()
    for node in sympy.preorder_traversal(expression):
        counts = isinstance(node, sympy.factorial | sympy.binomial | sympy.gamma)
        if counts or (isinstance(node, sympy.Pow) and node.base.is_number and node.base.is_negative):
            found |= (node if counts else node.exp).free_symbols
    return found


def _real_roots(expression: Any) -> Any:
    """Odd roots as real ones: the cube root of -8 is -2."""
    import sympy

    def odd(node: Any) -> bool:
        return isinstance(node, sympy.Pow) and node.exp.is_Rational and node.exp.q > 1 and bool(node.exp.q % 2)

    def real(node: Any) -> Any:
        return sympy.sign(node.base) ** node.exp.p * sympy.Abs(node.base) ** node.exp

    return expression.replace(odd, real)


def _defined(expression: Any, point: Point) -> bool:
    """Whether every part of an expression has a real value at a point."""
    import sympy

    for node in sympy.preorder_traversal(expression):
        if isinstance(node, sympy.Pow) and not node.exp.is_integer:
            even = node.exp.is_Rational and node.exp.q % 2 == 0
            if (even or not node.exp.is_Rational) and not _positive(node.base, point):
                return False
        elif isinstance(node, sympy.log):
            if not _positive(node.args[0], point):
                return False
        elif isinstance(node, sympy.asin | sympy.acos) and not _positive(1 - node.args[0] ** 2, point):
            return False
    return True


def _positive(expression: Any, point: Point) -> bool:
    value = _number(expression.subs(point), 100)
    return value is not None and value.is_real and bool(value > 0)


def proportional(gold: Any, answer: Any) -> bool:
    """Whether ``gold = 0`` and ``answer = 0`` are one equation up to a constant factor other than zero."""
    import sympy

    if not isinstance(gold, sympy.Expr) or not isinstance(answer, sympy.Expr) or answer == 0 or gold == 0:
        return False
    if gold.free_symbols != answer.free_symbols or not gold.free_symbols:
        return False
    names = sorted(gold.free_symbols, key=str)
    for first in (3, 101, 211, 307):  # a point may lie on both curves
        point = {name: sympy.Rational(first + 2 * i, 7 + i) for i, name in enumerate(names)}
        below, above = _number(answer.subs(point)), _number(gold.subs(point))
        if below is None or above is None or (below == 0) != (above == 0):
            return False
        if below != 0:
            ratio = sympy.nsimplify(gold.subs(point) / answer.subs(point))
            return bool(same_value(gold, ratio * answer))
    return False


def same_curve(gold: Any, answer: Any, gold_is: Any = None, answer_is: Any = None) -> bool:
    """Whether ``gold = 0`` and ``answer = 0`` in two or more unknowns have the same solutions.

    ``x y - 6`` and ``y - 6/x`` do: they differ by a factor that is not constant. Polynomials are compared by their
    irreducible factors, which is exact where denominators vanish nowhere on the curve. Where one side is solved for an
    unknown (``gold_is`` or ``answer_is`` is ``(unknown, its value)``), the other is solved for it too, and so are both
    where they hold nothing but roots.
    """
    import sympy

    if not isinstance(gold, sympy.Expr) or not isinstance(answer, sympy.Expr):
        return False
    names = gold.free_symbols
    if len(names) < 2 or names != answer.free_symbols:
        return False
    mine, theirs = factors([answer]), factors([gold])
    if mine is not None and theirs is not None:
        return same_factors(theirs, mine)
    for solved, other in ((gold_is, answer), (answer_is, gold)):
        if solved is None:
            continue
        unknown, value = solved
        if not same_value(sympy.Integer(0), other.subs(unknown, value), value):
            return False
        branches = sympy.solve(other, unknown)
        return len(branches) == 1 and same_value(value, branches[0], value) is True
    if not all(e.is_algebraic_expr(*names) and e.count_ops() < MOST_OPERATIONS for e in (gold, answer)):
        return False
    last = max(names, key=str)
    a, b = sympy.solve(gold, last), sympy.solve(answer, last)
    return 0 < len(a) == len(b) and all(any(same_value(x, y) for y in b) for x in a)


def factors(equations: list[Any]) -> list[Any] | None:
    """The irreducible factors with unknowns of what equals zero in any of the equations; None beyond polynomials."""
    import sympy

    found: list[Any] = []
    for equation in equations:
        names = sorted(equation.free_symbols, key=str)
        above = sympy.fraction(sympy.together(equation))[0]
        if not names or not above.is_polynomial(*names) or sympy.Poly(above, *names).total_degree() > MOST_DEGREE:
            return None
        found += [f for f, _ in sympy.factor_list(above)[1] if f.free_symbols]
    return found


def same_factors(gold: list[Any], answer: list[Any]) -> bool:
    """Whether two products vanish together: the same factors, each up to a constant, however often."""
    return all(any(proportional(a, b) for b in answer) for a in gold) and all(
        any(proportional(a, b) for a in gold) for b in answer
    )


def same_family(gold: Any, answer: Any, name: str) -> bool:
    """Whether ``a + b k`` and ``c + d k`` take the same values as ``k`` runs through the whole numbers."""
    import sympy

    k = sympy.Symbol(name)
    if not isinstance(gold, sympy.Expr) or not isinstance(answer, sympy.Expr):
        return False
    step, other = sympy.expand(gold).coeff(k, 1), sympy.expand(answer).coeff(k, 1)
    start, begin = sympy.expand(gold - step * k), sympy.expand(answer - other * k)
    if step == 0 or other == 0 or start.has(k) or begin.has(k) or step.has(k) or other.has(k):
        return False
    return abs(sympy.simplify(other / step)) == 1 and sympy.simplify((start - begin) / step).is_integer is True


def _number(expression: Any, most: int = 400) -> Any:
    """A complex number to 40 digits, worked out with up to ``most``; or None."""
    import sympy

    value = sympy.N(expression, DIGITS, maxn=most)
    if value.free_symbols or not (value.is_number and value.is_finite):
        return None
    return value
