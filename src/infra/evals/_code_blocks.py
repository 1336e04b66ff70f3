"""Which part of a response is the program.

A response may hold drafts, sample output, shell commands and fences inside docstrings. The program is the last
block that parses as Python and defines what the tests name. What a model wrote while it was thinking is not its
answer.
"""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infra.evals._python_code import defined, does_something, lacks_names
from infra.evals.sandbox.inside.names import supplied

MAX_CHARACTERS = 1 << 20  # of one block; a longer one is no program
MAX_BLOCKS = 400  # that are tried
MAX_PARSED = 2 << 20  # of one response, all tries together
MAX_CLOSINGS = 12  # fences that are tried as the end of one block
MAX_CUTS = 8  # times that prose is cut off behind a program without a last fence
BEST = 5  # rank of a block that is surely the answer

_THINK = re.compile(
    r"^[ \t]*(?P<open><(?:think|thinking|reasoning)>|\[THINK\]|<\|begin_of_thought\|>)"
    r"|(?P<close></(?:think|thinking|reasoning)>|\[/THINK\]|<\|end_of_thought\|>)(?=[ \t]*$)"
    r"|^[ \t]*(?P<first></(?:think|thinking|reasoning)>|\[/THINK\]|<\|end_of_thought\|>)",
    re.MULTILINE,
)
_LINE_START = re.compile(r"[\s>]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?")  # of a quotation or a list
_QUOTED = re.compile(r"[ \t]*(?:>[ \t]?)+")
_LANGUAGE = re.compile(r"[\w+#.-]{0,20}(?:[ \t]*\{[^{}]*\})?(?:[ \t]+[\w-]+=\S+)*")
_PYTHON = re.compile(r"\{?\.?(?:python|py|ipython|sage)[\d.]*(?:$|[ \t{}])", re.IGNORECASE)
_PROSE = re.compile(r"[A-Z][\w'’-]*(?:[ ,](?![ ]*[=+*/%(\[.-])|[:.!]\s*$)|[*#>-]|\d+[.)] ")


@dataclass(frozen=True, slots=True)
class _Fence:
    line: int
    before: str  # what stands before the fence on its line
    mark: str
    info: str  # what stands behind it: a language, or nothing

    @property
    def starts_line(self) -> bool:
        return _LINE_START.fullmatch(self.before) is not None

    @property
    def opens(self) -> bool:
        """Whether a block can begin here. A fence behind a sentence does that only if it names a language."""
        return _LANGUAGE.fullmatch(self.info) is not None and (self.starts_line or self.info != "")

    def closes(self, opening: _Fence) -> bool:
        fits = self.info == "" and self.mark[0] == opening.mark[0] and len(self.mark) >= len(opening.mark)
        return fits and not self.before.lstrip().startswith("#")  # a fence in a comment is part of the program


@dataclass(frozen=True, slots=True)
class _Block:
    code: str
    language: str
    tree: ast.Module | None
    error_line: int = 0


def last_code_block(response: str) -> str | None:
    """Text between the last two lines that hold a fence (LiveCodeBench's rule), or None."""
    lines = response.split("\n")
    fences = [i for i, line in enumerate(lines) if "```" in line]
    if len(fences) < 2:
        return None
    return "\n".join(lines[fences[-2] + 1 : fences[-1]])


def program_of(response: str, tests: Mapping[str, Any]) -> str | None:
    """The program in ``response`` that ``tests`` are meant for, or None where there is no code block.

    It is the last block that parses as Python and defines every name that the tests take from a program. For tests
    that name nothing (standard input) it is the last that calls something and lacks no name. Where no block is like
    that, it is the last that defines some of the names, else that does anything, else that is marked as Python,
    else the last.
    """
    spoken = _spoken(response)
    if spoken is None:
        return None
    wanted, methods = _wanted(tests)
    best, code = -1, None
    for block in _Response(spoken).blocks():
        rank = _rank(block, wanted, methods)
        if rank > best:
            best, code = rank, block.code
        if rank == BEST:
            break
    return code


def _wanted(tests: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Names that the tests take from a program, and whether they may be methods of its classes."""
    if tests.get("kind") == "functional":
        return [str(tests["entry_point"])], True
    try:
        return supplied(tests) if tests.get("kind") in ("asserts", "program") else [], False
    except (SyntaxError, ValueError, KeyError, TypeError):
        return [], False


def _rank(block: _Block, wanted: list[str], methods: bool) -> int:
    """How much the block looks like the answer, up to ``BEST``; of equal ones the last counts."""
    if not block.code.strip():
        return 0
    if block.tree is None:
        return 2 if _PYTHON.match(block.language) else 1
    if not does_something(block.tree):
        return 1
    if not wanted:
        foreign = block.language != "" and not _PYTHON.match(block.language)
        return 3 if foreign or lacks_names(block.tree) else BEST
    found = defined(block.tree, methods)
    return BEST if found.issuperset(wanted) else 4 if not found.isdisjoint(wanted) else 3


class _Response:
    """The text of a response with its fences; parses no more than ``MAX_PARSED`` characters in all."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._fences = [f for i, line in enumerate(self._lines) if (f := _fence(i, line)) is not None]
        self._begun, self._unclosed = _structure(self._fences)
        self._left = MAX_PARSED

    def blocks(self) -> Iterator[_Block]:
        """Blocks from the last to the first."""
        places = {fence.line: index for index, fence in enumerate(self._fences)}
        lines = [n for n, line in enumerate(self._lines) if n in places or line.count("```") == 2]
        for number in lines[: -MAX_BLOCKS - 1 : -1]:
            if self._left <= 0:
                return
            block = None
            if self._lines[number].count("```") == 2:
                block = self._on_one_line(self._lines[number])
            elif self._fences[places[number]].opens:
                block = self._at(places[number])
            if block is not None:
                yield block

    def _on_one_line(self, line: str) -> _Block | None:
        code = re.sub(r"^(?:python3?|py)\s", "", line.split("```")[1].strip(), flags=re.IGNORECASE)
        block = self._block([code], "")
        return block if block.tree is not None else None

    def _at(self, index: int) -> _Block | None:
        """The block that begins with this fence; None where the fence ends another block.

        It ends at the nearest fence with which it parses, since a fence inside a program stands in a string. Where
        a fence is missing it ends before the next one, or with the response, less the prose behind the program.
        """
        opening, later = self._fences[index], self._fences[index + 1 :]
        width = len(opening.before) if opening.starts_line else 0
        quoted = opening.starts_line and ">" in opening.before
        first: _Block | None = None
        for closing in itertools.islice((f for f in later if f.closes(opening)), MAX_CLOSINGS):
            inner = self._lines[opening.line + 1 : closing.line]
            inner += [] if closing.starts_line else [closing.before]
            block = self._block(_shifted(inner, width, quoted), opening.info)
            if block.tree is not None:
                return block
            first = first or block
        if opening.info == "" and opening.line not in self._begun:
            return None
        if first is None or self._unclosed or later[0].info:
            inner = self._lines[opening.line + 1 : later[0].line if later else None]
            cut = self._without_prose(_shifted(inner, width, quoted), opening.info)
            return cut if cut.tree is not None or first is None else first
        return first

    def _without_prose(self, inner: list[str], language: str) -> _Block:
        whole = block = self._block(inner, language)
        for _ in range(MAX_CUTS):
            end = block.error_line - 1
            while end > 0 and not inner[end - 1].strip():
                end -= 1
            if block.tree is not None or end <= 0 or not _PROSE.match(inner[block.error_line - 1]):
                break
            inner = inner[:end]
            block = self._block(inner, language)
        return block if block.tree is not None else whole

    def _block(self, inner: list[str], language: str) -> _Block:
        code = "\n".join(inner)
        tree, line = self._parsed(code)
        if tree is None and code[:1] in (" ", "\t", "\n"):
            again = textwrap.dedent(code)
            tree, line = self._parsed(again)
            code = again if tree is not None else code
        return _Block(code, language, tree, line)

    def _parsed(self, code: str) -> tuple[ast.Module | None, int]:
        """The program, or None and the line of the first error (0 where that is not known)."""
        self._left -= len(code)
        if len(code) > MAX_CHARACTERS:
            return None, 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of strings with odd escapes
                return ast.parse(code), 0
        except SyntaxError as error:
            return None, min(error.lineno or 0, code.count("\n") + 1)
        except (ValueError, RecursionError, MemoryError):
            return None, 0


def _fence(number: int, line: str) -> _Fence | None:
    at = min((i for i in (line.find("```"), line.find("~~~")) if i >= 0), default=-1)
    if at < 0:
        return None
    rest = line[at:].lstrip(line[at])
    mark, info = line[at : len(line) - len(rest)], rest.strip()
    return None if "`" in info or "~~~" in info else _Fence(number, line[:at], mark, info)


def _structure(fences: list[_Fence]) -> tuple[set[int], bool]:
    """Lines of the fences that begin a block as Markdown counts, and whether the last block is left open."""
    begun: set[int] = set()
    opening: _Fence | None = None
    for fence in fences:
        if opening is None and fence.opens:
            opening = fence
            begun.add(fence.line)
        elif opening is not None and fence.closes(opening):
            opening = None
    return begun, opening is not None


def _shifted(inner: list[str], width: int, quoted: bool) -> list[str]:
    """Lines of a block without what its first fence stood in: a quotation, a list, an indentation."""
    if quoted:
        return [_QUOTED.sub("", line, count=1) for line in inner]
    return [line[min(width, len(line) - len(line.lstrip(" \t"))) :] for line in inner]


def _spoken(response: str) -> str | None:
    """The response without its thinking; None where it was cut off while thinking.

    A tag counts at the beginning of a line or, where it closes, at the end of one; in a program it stands in quotes.
    A closing tag without an opening one ends thinking that the prompt began.
    """
    kept: list[str] = []
    start, thinking = 0, False
    for tag in _THINK.finditer(response):
        if tag["open"]:
            if not thinking:
                kept.append(response[start : tag.start()])
            thinking = True
        else:
            if not thinking:
                kept = []
            thinking, start = False, tag.end()
    return None if thinking else "\n".join((*kept, response[start:]))
