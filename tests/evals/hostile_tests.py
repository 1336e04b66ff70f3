"""Programs that attack by way of tests of another shape than ``hostile.TESTS``: each has tests of its own.

``CHEATS`` do not solve their tests and must not be judged correct in strict mode. ``HEAVY`` return what is small to
send and dear to look at: the judge must stay within their limits, and the verdict must be theirs. ``FAIR`` say who is
to blame: the outcome that the program and tests deserve.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

# ruff: noqa: E501 - programs are kept on one line each

Tests = dict[str, Any]


def asserts(*lines: str, setup: str = "") -> Tests:
    return {"kind": "asserts", "setup": setup, "asserts": list(lines)}


def checked(code: str, entry_point: str, setup: str = "") -> Tests:
    return {"kind": "program", "code": code, "entry_point": entry_point, "setup": setup}


def stdin(given: str, wanted: str) -> Tests:
    return {"kind": "stdin", "cases": [{"input": given, "output": wanted}]}


def called(name: str, given: str, wanted: str) -> Tests:
    return {"kind": "functional", "entry_point": name, "cases": [{"input": given, "output": wanted}]}


POLY = "import math\n\n\ndef poly(xs, x):\n    return sum([c * math.pow(x, i) for i, c in enumerate(xs)])\n"
ROOTS = "def check(candidate):\n    import math\n    assert math.fabs(poly([-2, 1], candidate([-2, 1]))) < 1e-4\n"
CYCLE = "def encode_cyclic(s):\n    groups = [s[3 * i:min(3 * i + 3, len(s))] for i in range((len(s) + 2) // 3)]\n    return ''.join((g[1:] + g[0]) if len(g) == 3 else g for g in groups)\n"
CYCLED = "def check(candidate):\n    assert candidate(encode_cyclic('abcdef')) == 'abcdef'\n"
SHIFT = "def encode_shift(s):\n    return ''.join(chr((ord(c) + 5 - ord('a')) % 26 + ord('a')) for c in s)\n"
SHIFTED = (
    "def check(candidate):\n    import copy\n    assert candidate(copy.deepcopy(encode_shift('abcxyz'))) == 'abcxyz'\n"
)
NODES = "class Node:\n    def __init__(self, v, next=None):\n        self.v, self.next = v, next\n\ndef chain(vs):\n    head = None\n    for v in reversed(vs):\n        head = Node(v, head)\n    return head\n\ndef alike(a, b):\n    while a and b:\n        if a.v != b.v:\n            return False\n        a, b = a.next, b.next\n    return not a and not b\n"
REVERSED = "def check(candidate):\n    assert alike(candidate(chain([1, 2, 3])), chain([3, 2, 1]))\n"
SIZES = ('assert tuple_size(("A", 1)) == sys.getsizeof(("A", 1))', "assert tuple_size((1,)) == sys.getsizeof((1,))")

CHEATS: dict[str, tuple[str, Tests]] = {
    # helpers of the tests, defined again by the program
    "own poly": ("def poly(xs, x): return 0\ndef find_zero(xs): return 7\n", checked(ROOTS, "find_zero", POLY)),
    "own encode_cyclic": (
        "def encode_cyclic(s): return s\ndef decode_cyclic(s): return s\n",
        checked(CYCLED, "decode_cyclic", CYCLE),
    ),
    "own encode_shift": (
        "def encode_shift(s): return s\ndef decode_shift(s): return s\n",
        checked(SHIFTED, "decode_shift", SHIFT),
    ),
    "own helper, no setup": (
        "def encode_shift(s): return s\ndef decode_shift(s): return s\n",
        checked(SHIFTED, "decode_shift"),
    ),
    "own comparison of nodes": ("def alike(a, b): return True\ndef f(n): return n\n", checked(REVERSED, "f", NODES)),
    "own class of nodes": (
        "class Node:\n    def __init__(self, v=0, next=None): self.v, self.next = v, next\n    def __eq__(s, o): return True\n    def __bool__(s): return False\ndef f(n): return Node()\n",
        checked(REVERSED, "f", NODES),
    ),
    "own sys": ("class sys:\n    def getsizeof(x): return 0\ndef tuple_size(t): return 0\n", asserts(*SIZES)),
    "own sys as a module": (
        "import types\nsys = types.ModuleType('sys')\nsys.getsizeof = lambda x: 0\ndef tuple_size(t): return 0\n",
        asserts(*SIZES),
    ),
    "own math": (
        "class math:\n    def isclose(a, b): return True\ndef f(x): return 0\n",
        asserts("assert math.isclose(f(1), 2.0)"),
    ),
    "own isclose": ("def isclose(*a, **k): return True\ndef f(x): return 0\n", asserts("assert isclose(f(1), 2.0)")),
    "own Counter": ("def Counter(x): return 0\ndef f(x): return 0\n", asserts("assert f('aab') == Counter('aab')")),
    "own np": (
        "class np:\n    def allclose(a, b): return True\ndef f(x): return 0\n",
        asserts("assert np.allclose(f(1), [2.0])"),
    ),
    "own check": (
        "def check(c): return None\ndef f(x): return 0\n",
        checked("def check(candidate):\n    assert candidate(1) == 2\n", "f"),
    ),
    # expected values shown to the program
    "contains everything": (
        "class E:\n    def __contains__(s, o): return True\ndef f(x): return E()\n",
        asserts("assert 2 in f(1)"),
    ),
    "iterates to what it is asked for": (
        "class E:\n    def __contains__(s, o):\n        s.o = o\n        return True\n    def __iter__(s): return iter([getattr(s, 'o', 0)])\ndef f(x): return E()\n",
        asserts("r = f(1)\nassert 2 in r\nassert list(r) == [2]"),
    ),
    "items equal to everything": (
        "class E:\n    def __eq__(s, o): return True\n    __hash__ = None\ndef f(x): return [E()]\n",
        asserts("assert 2 in f(1)", "assert f(1) == [2]", "assert f(1).index(2) == 0", "assert f(1).count(2) == 1"),
    ),
    "keys equal to everything": (
        "class E:\n    def __eq__(s, o): return True\n    def __hash__(s): return hash(2)\ndef f(x): return {E(): 3}\n",
        asserts("assert f(1)[2] == 3"),
    ),
    "equal from the left and the right": (
        "class E(str):\n    def __eq__(s, o): return True\n    __hash__ = str.__hash__\ndef f(x): return (E('a'), [E('b')])\n",
        asserts("assert ('x', ['y']) == f(1)", "assert f(1) == ('x', ['y'])"),
    ),
    # control flow of the tests
    "StopIteration inside all(map())": (
        "def f(x): raise StopIteration\n",
        asserts("assert all(map(lambda x: f(x) == x + 1, range(5)))"),
    ),
    "StopIteration by a subclass": (
        "class StopIteration(StopIteration): pass\ndef f(x): raise StopIteration(1)\n",
        asserts("assert all(map(f, range(5)))", "assert not any(map(f, [1]))"),
    ),
    "StopIteration in a loop": (
        "def f(x): raise StopIteration\n",
        asserts("for y in map(f, [1, 2]):\n    assert y == 2"),
    ),
    "StopIteration before a sentinel": (
        "def f(): raise StopIteration\n",
        asserts("assert list(iter(f, 5)) == []\nassert f() == 5"),
    ),
    "death where an exception is expected": (
        "import os\ndef f(x): os._exit(0)\n",
        asserts("try:\n    f(1)\n    ok = False\nexcept Exception:\n    ok = True\nassert ok"),
    ),
    "death where anything is expected": (
        "import os\ndef f(x): os.kill(os.getpid(), 9)\n",
        asserts("try:\n    f(1)\n    ok = False\nexcept:\n    ok = True\nassert ok"),
    ),
    "silence where an exception is expected": (
        "import time\ndef f(x): time.sleep(99)\n",
        asserts("try:\n    f(1)\n    ok = False\nexcept BaseException:\n    ok = True\nassert ok"),
    ),
    "AssertionError where one is swallowed": ("def f(x): raise AssertionError\n", asserts("assert f(1) == 2")),
    "two asserts in one string": ("def f(x): return 2\n", asserts("assert f(1) == 2\nassert f(2) == 3")),
    "asserts in the setup": ("def f(x): return 2\n", asserts("assert f(1) == 2", setup="assert f(2) == 3")),
    "names that are not there": (
        "import os, struct, json, time\nb = json.dumps({'names': ['f', 'set', 'len', 'all']}).encode()\nos.write(3, struct.pack('=I', len(b)) + b)\ntime.sleep(99)\n",
        asserts("assert len(set(f(1))) == 1"),
    ),
    "a class sent as data with a method": (
        "import os, json, struct\ndef f(n):\n    b = json.dumps({'value': {'o': 0}, 'objects': [['Node', [['__class__', 1], ['v', 9], ['next', None]]]]}).encode()\n    os.write(3, struct.pack('=I', len(b)) + b)\n",
        checked(REVERSED, "f", NODES),
    ),
    "a table of objects that is none": (
        "import os, json, struct\ndef f(n):\n    b = json.dumps({'value': {'o': 7}, 'objects': [['Other', 3]]}).encode()\n    os.write(3, struct.pack('=I', len(b)) + b)\n",
        checked(REVERSED, "f", NODES),
    ),
}

HEAVY: dict[str, tuple[str, Tests]] = {
    "range in a set": ("def f(x): return range(3 * 10**7)\n", asserts("assert set(f(1)) == {1}")),
    "range in a sum": ("def f(x): return range(10**11)\n", asserts("assert sum(f(1)) == 2")),
    "range searched": ("def f(x): return range(10**11)\n", asserts("assert 'a' in f(1)")),
    "range in a list": ("def f(x): return range(10**10)\n", asserts("assert list(f(1)) == [2]")),
    "digits shown": ("def f(x): return 2**(10**7)\n", called("f", "1", "2")),
    "digits shown for an assert": ("def f(x): return 2**(10**7)\n", asserts("assert f(1) == 2")),
    "digits in a message": ("def f(x): return 2**(10**7)\n", asserts("assert f(1) == 2, f(1)", setup="n = 1")),
    "digits as text": ("def f(x): return 2**(10**7)\n", asserts("assert str(f(1)) == '2'")),
    "digits on the wire": (
        "import os, struct\ndef f(x):\n    b = b'{\"value\":' + b'9' * 5000000 + b'}'\n    v = memoryview(struct.pack('=I', len(b)) + b)\n    while v: v = v[os.write(3, v):]\n",
        asserts("assert f(1) == 2"),
    ),
    "a power by the test": ("def f(x): return 10**9\n", asserts("assert 3 ** f(1) == 2")),
    "a length by the test": ("def f(x): return 10**10\n", asserts("assert [0] * f(1) == 2")),
    "54 MB in a message": ("def f(x): return 'x' * (54 << 20)\n", asserts("assert f(1) == 2")),
    "millions of empty lists": (
        "import os, struct\ndef f(x):\n    b = b'{\"value\":[' + b'[],' * 5000000 + b'0]}'\n    v = memoryview(struct.pack('=I', len(b)) + b)\n    while v: v = v[os.write(3, v):]\n",
        asserts("assert f(1) == 2"),
    ),
    "colliding hashes": (
        "import os, struct\ndef f(x):\n    b = b'{\"value\":{\"s\":[' + b','.join(b'{\"i\":\"%x\"}' % (i * (2**61 - 1)) for i in range(60000)) + b']}}'\n    v = memoryview(struct.pack('=I', len(b)) + b)\n    while v: v = v[os.write(3, v):]\n",
        asserts("assert f(1) == 2"),
    ),
    "a fraction to reduce": (
        "import os, struct\ndef f(x):\n    b = b'{\"value\":{\"n\":[\"0x' + b'3' * 3000000 + b'\",\"0x' + b'5' * 2900000 + b'\"]}}'\n    v = memoryview(struct.pack('=I', len(b)) + b)\n    while v: v = v[os.write(3, v):]\n",
        asserts("assert f(1) == 2"),
    ),
    "an endless chain": (
        "class N:\n    @property\n    def next(s): return s\ndef f(x): return N()\n",
        asserts("n = f(1)\nwhile n: n = n.next"),
    ),
    "an endless iterator": ("import itertools\ndef f(x): return itertools.count()\n", asserts("assert 'a' in f(1)")),
    "an iterator of iterators": (
        "class N:\n    def __iter__(s): return iter([s])\ndef f(x): return N()\n",
        asserts("def flat(x):\n    return [z for y in x for z in flat(y)]\nassert flat(f(1)) == [2]"),
    ),
    "seven million numbers printed": ("print('1 ' * (7 << 20))\n", stdin("", "2")),
    "lines printed": ("print('1\\n' * (7 << 20))\n", stdin("", "2\n" * 9)),
    "input that is not read": (
        "import os, struct, json, time\nb = json.dumps({'names': ['f']}).encode()\nos.write(3, struct.pack('=I', len(b)) + b)\ntime.sleep(99)\n",
        asserts("assert f('x' * (1 << 22)) == 2"),
    ),
    "thousands of empty files": (
        "def f(x):\n    i = 0\n    while True:\n        open(f'/tmp/{i}', 'w').close()\n        i += 1\n",
        asserts("assert f(1) == 2"),
    ),
    "folders in folders": (
        "import os\ndef f(x):\n    while True:\n        os.mkdir('d')\n        os.chdir('d')\n",
        asserts("assert f(1) == 2"),
    ),
    "a folder that cannot be listed": (
        "import os\ndef f(x):\n    os.mkdir('/tmp/q', 0o300)\n    open('/tmp/q/a', 'w').close()\n    return 5\n",
        asserts("assert f(1) == 2"),
    ),
    "a name of a million letters": (
        "exec('def ' + 'f' * 1000000 + '(): pass')\ndef f(x): raise ValueError('y' * 10**7)\n",
        asserts("assert f(1) == 2"),
    ),
    "an exception that cannot be described": (
        "class E(Exception):\n    def __str__(s): raise E\ndef f(x): raise E\n",
        asserts("assert f(1) == 2"),
    ),
    "a lone surrogate in an exception": ("def f(x): raise ValueError('\\ud800')\n", asserts("assert f(1) == 2")),
    "a lone surrogate in the program": ("s = '\ud800'\ndef f(x): return 5\n", asserts("assert f(1) == 2")),
    "a lone surrogate returned": ("def f(x): return '\\udfff'\n", called("f", "1", "2")),
    "a lone surrogate printed": ("print('\\ud800')\n", stdin("", "2")),
    "a lone surrogate as a name": ("globals()['\\ud800'] = 1\ndef f(x): return 5\n", asserts("assert f(1) == 2")),
    "terminal codes in an exception": ("def f(x): raise ValueError('\\x1b[2J\\x07')\n", asserts("assert f(1) == 2")),
}

FAIR: dict[str, tuple[str, Tests, str]] = {
    "tests that print": ("def f(x): return x + 1\n", asserts("print('{\"id\": 0}')\nassert f(1) == 2"), "correct"),
    "tests that print and fail": ("def f(x): return x\n", asserts("print('x' * 10**6)\nassert f(1) == 2"), "wrong"),
    "tests that leave": ("def f(x): return 3\n", asserts("import sys\nassert f(1) == 2 or sys.exit(0)"), "ungradable"),
    "tests that import what is not here": (
        "def f(x): return 2\n",
        asserts("import no_such_module\nassert f(1) == 2"),
        "ungradable",
    ),
    "tests with a name of nobody": (
        "def f(x): return 2\n",
        checked("def check(candidate):\n    assert helper(candidate(1)) == 2\n", "f"),
        "ungradable",
    ),
    "tests that pass a function": ("def f(g): return g(1)\n", asserts("assert f(lambda x: x + 1) == 2"), "ungradable"),
    "tests that are not Python": ("def f(x): return 2\n", asserts("assert f(1) = 2"), "ungradable"),
    "a program without the function": ("def g(x): return 2\n", asserts("assert f(1) == 2"), "error"),
    "a program that raises what is expected": (
        "def f(x):\n    raise ValueError('odd')\n",
        asserts("try:\n    f(1)\n    ok = False\nexcept ValueError as e:\n    ok = str(e) == 'odd'\nassert ok"),
        "correct",
    ),
    "the prompt's helper": ("def find_zero(xs): return -xs[0] / xs[1]\n", checked(ROOTS, "find_zero", POLY), "correct"),
    "the prompt's helper, written again": (
        POLY + "def find_zero(xs): return -xs[0] / xs[1]\n",
        checked(ROOTS, "find_zero", POLY),
        "correct",
    ),
    "chains of the tests' nodes": (
        "def f(n):\n    last = None\n    while n:\n        n.next, last, n = last, n, n.next\n    return last\n",
        checked(REVERSED, "f", NODES),
        "correct",
    ),
    "chains of the program's nodes": (
        "class Node:\n    def __init__(self, v=0, next=None): self.v, self.next = v, next\nclass Solution:\n    def f(self, n):\n        out = None\n        while n:\n            out, n = Node(n.v, out), n.next\n        return out\n",
        checked(REVERSED, "Solution().f", NODES),
        "correct",
    ),
    "a chain of 50,000 nodes": (
        "def f(n): return n\n",
        checked(
            "def check(candidate):\n    assert alike(candidate(chain(range(50000))), chain(range(50000)))\n", "f", NODES
        ),
        "correct",
    ),
    "a ring": (
        "def f(n):\n    n.next.next = n\n    return n\n",
        checked(
            "def check(candidate):\n    n = candidate(chain([1, 2]))\n    assert n.next.next is n and n.v == 1\n",
            "f",
            NODES,
        ),
        "correct",
    ),
    "a method of one object, called twice": (
        "class Solution:\n    n = 0\n    def f(self, x):\n        self.n += 1\n        return self.n\n",
        checked("def check(candidate):\n    assert candidate(1) == 1\n    assert candidate(1) == 2\n", "Solution().f"),
        "correct",
    ),
    "an endless generator": (
        "def f():\n    a, b = 0, 1\n    while True:\n        yield a\n        a, b = b, a + b\n",
        asserts(
            "from itertools import islice\ng = f()\nassert list(islice(g, 6)) == [0, 1, 1, 2, 3, 5]\nassert next(g) == 8\nassert 13 in g\nassert next(g) == 21"
        ),
        "correct",
    ),
    "a generator that ends": (
        "def f(x): yield from range(x)\n",
        asserts("g = f(2)\nassert [*g] == [0, 1] and next(g, 9) == 9"),
        "correct",
    ),
    "a container of its own": (
        "class Bag:\n    def __init__(s, xs): s.xs = xs\n    def __iter__(s): return iter(s.xs)\n    def __len__(s): return len(s.xs)\n",
        asserts("b = Bag([1, 2])\nassert 2 in b and 3 not in b and len(b) == 2 and sorted(b) == [1, 2]"),
        "correct",
    ),
    "library names beside the tested one": (
        "from collections import Counter\ndef f(x): return Counter(x)\n",
        asserts("assert f('aab') == Counter('aab')", "assert isclose(sqrt(4), 2)"),
        "correct",
    ),
    "a tested function named like a library's": ("def sqrt(x): return 7\n", asserts("assert sqrt(1) == 7"), "correct"),
    "a tested function named like a module": ("def code(x): return 7\n", asserts("assert code(1) == 7"), "correct"),
    "an object of the program named like a module": (
        "class Heap:\n    def top(self): return 7\nheapq = Heap()\n",
        asserts("assert heapq.top() == 7"),
        "correct",
    ),
    "sizes by the tests' sys": ("import sys\ndef tuple_size(t): return sys.getsizeof(t)\n", asserts(*SIZES), "correct"),
}


def human_eval(folder: Path) -> dict[str, Any]:
    """HumanEval's own rows by number, where the file is there."""
    file = folder / "HumanEval.jsonl.gz"
    if not file.exists():
        return {}
    with gzip.open(file, "rt") as lines:
        return {r["task_id"].split("/")[1]: r for r in map(json.loads, lines)}
