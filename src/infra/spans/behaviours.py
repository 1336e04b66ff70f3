"""Behaviours of steps by rule: what each step of a chain of thought does, as one or more labels.

Two passes. The first gathers evidence in each step (:mod:`infra.spans.cues`); the second walks through the
trace with what only its course can tell: whether the answer has been reached, which values are new, and which
check or alternative is still going on. Definitions: ``tests/spans/labels/GUIDELINE.md``; measured quality:
``docs/explanation/steps.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.spans import cues
from infra.spans.regions import regions
from infra.spans.values import arrives_at, mentions, normal, number_words_in, numbers_in, stated_answer

LABELS = (
    "plan",
    "subgoal",
    "computation",
    "fact",
    "verification",
    "backtracking",
    "exploration",
    "exploration_after_answer",
    "final_answer",
)


_LONGEST = 2000
_LONGEST_ANSWER = 200


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What one step shows by itself; ``numbers`` in order, the rest whether the cue of that name was
    found."""

    body: str
    numbers: tuple[str, ...]
    plan: bool
    method: bool
    first: bool
    will: bool
    sequence: bool
    aim: bool
    heading: bool
    given: bool
    arithmetic: bool
    relation: bool
    valued: bool
    verify: bool
    verify_late: bool
    wrong: bool
    redo: bool
    wait: bool
    explore: bool
    final: bool
    concludes: bool
    code: bool


def behaviours(
    text: str, spans: Sequence[tuple[int, int]], answer: str | None = None, question: str = ""
) -> list[tuple[str, ...]]:
    """Labels of each step ``[start, end)`` of ``text``, in the order of :data:`LABELS`; possibly none.

    ``answer``: the value the trace arrives at or should; without it, it is read from the trace (answer tag,
    box, "the answer is"). It decides which exploration comes after the answer. ``question``: the problem,
    whose numbers are then not taken for new results. An answer that the trace never mentions
    gives way to the one it states.
    """
    code = [(r.start, r.end) for r in regions(text) if r.kind in ("fence", "code")]
    evidence = [_gather(text[a:b], any(s < b and a < e for s, e in code)) for a, b in spans]
    target = normal(answer or "")
    if not target or target not in normal(text):
        target = normal(stated_answer(text)[:_LONGEST])
    if not target and not code and evidence:
        target = next(iter(evidence[-1].numbers[-1:]), "")
    if len(target) > _LONGEST_ANSWER:
        target = ""
    known = set(numbers_in(question)) | set(number_words_in(question))
    walk = _Walk(target, known, bool(question))
    labelled = walk.label(evidence)
    return labelled if target else _explorations_after(labelled)


def _gather(step: str, code: bool) -> _Evidence:
    """Evidence of one step; tags and list markers do not count as its words (but an answer tag does as
    final)."""
    if len(step) > _LONGEST:  # no sentence of anyone: look at its two ends, so that no pattern meets a megabyte
        step = f"{step[: _LONGEST // 2]} {step[-_LONGEST // 2 :]}"
    body = cues.STRIP.sub("", step).replace("**", "").replace("’", "'").lower()
    to_first, to_do = cues.TO_FIRST.match(body), cues.TO_DO.match(body)
    # In "To solve 3x = 9, divide by 3: x = 3" only what follows the purpose is work.
    work = body[max(m.end() if m else 0 for m in (to_first, to_do)) :]
    wrong, explore = cues.WRONG.search(body), cues.EXPLORE.search(body)
    if wrong and explore and explore.start() < wrong.start():
        wrong = None
    return _Evidence(
        body=body,
        numbers=tuple(numbers_in(cues.ORDINAL.sub("", body))),
        plan=cues.PLAN(body),
        method=to_do is not None and to_first is None,
        first=to_first is not None,
        will=cues.WILL(body),
        sequence=cues.SEQUENCE(body),
        aim=cues.AIM(body),
        heading=cues.HEADING.match(body) is not None,
        given=cues.GIVEN(body),
        arithmetic=cues.ARITHMETIC(work),
        relation=cues.RELATION(work) or cues.RESULT(work) or cues.CODE_PIECE(work) or cues.LITERAL(work),
        valued=cues.VALUED(work) or cues.DERIVED(work),
        verify=cues.VERIFY(body) and not cues.CHECK_AS_METHOD(body),
        verify_late=cues.VERIFY_LATE(body),
        wrong=wrong is not None,
        redo=cues.REDO(body),
        wait=cues.WAIT(body),
        explore=explore is not None,
        final=cues.FINAL(step.lower()),
        concludes=cues.CONCLUDES(body),
        code=code,
    )


class _Walk:
    """One trace from left to right. ``known``: numbers already on the table; the problem's are among them if
    ``asked``."""

    def __init__(self, target: str, known: set[str], asked: bool) -> None:
        self.target, self.known, self.asked = target, known, asked
        self.worked = False  # whether anything has been computed
        self.reached = False  # whether the answer has
        self.seen = False  # whether the answer's value has been mentioned
        self.mode = ""  # the verification or exploration still going on

    def label(self, evidence: list[_Evidence]) -> list[tuple[str, ...]]:
        """Labels of all steps."""
        arrival = _arrival(evidence, self.target)
        last_code = max((i for i, e in enumerate(evidence) if e.code), default=-1) if not self.target else -1
        labelled: list[tuple[str, ...]] = []
        for i, e in enumerate(evidence):
            found = set() if not e.body and not e.final else self._step(e, i, i == last_code)
            self.reached = self.reached or i == arrival or "final_answer" in found
            self.known.update(e.numbers)
            self.known.update(number_words_in(e.body))
            labelled.append(tuple(label for label in LABELS if label in found))
        return labelled

    def _step(self, e: _Evidence, i: int, program: bool) -> set[str]:
        computes = self._computes(e)
        arrives = arrives_at(e.body, self.target)
        mode = self._next_mode(e)
        labels: set[str] = set()
        if program:
            labels, self.mode = {"final_answer"}, ""
        elif self._is_final(e, mode, arrives):
            labels.add("final_answer")
            if mode in ("verification", "backtracking") and (e.verify or e.wrong):
                labels.add(mode)
            elif e.arithmetic and e.relation:
                labels.add("computation")
            self.mode = ""
        elif mode:
            labels.add(mode)
            if mode == "backtracking" and e.relation and computes:
                labels.add("computation")
            self.mode = "" if mode == "backtracking" else mode
        else:
            labels, self.mode = self._content(e, computes, i == 0), ""
        self.worked = self.worked or computes
        self.seen = self.seen or (computes and mentions(e.body, self.target))
        return labels

    def _is_final(self, e: _Evidence, mode: str, arrives: bool) -> bool:
        """Whether the step presents the answer: says so, or restates in a sentence of its own what was
        reached."""
        if e.final:
            return not (e.wrong and mode == "backtracking") or "</answer>" in e.body
        if e.verify or e.wrong or e.arithmetic or e.code or e.heading:
            return False
        if e.concludes and e.body.count("=") <= 1:
            if arrives and (self.reached or (self.seen and mode)):
                return True
            return (self.reached or (self.seen and bool(mode))) and not e.relation and mentions(e.body, self.target)
        restates = self.reached and arrives and not e.relation and not e.verify_late and ", " not in e.body
        return restates and mode in ("", "verification")

    def _next_mode(self, e: _Evidence) -> str:
        """The mode of this step: a new one that it opens, or the one still going on, or ''."""
        exploration = "exploration_after_answer" if self.reached else "exploration"
        if e.explore and not e.wrong:
            return exploration
        if e.wrong or e.redo or (self.mode.startswith("exploration") and cues.IMPOSSIBLE(e.body)):
            return "backtracking"
        if e.verify and (self.reached or ((self.worked or e.relation) and not e.plan)):
            return "verification"
        if e.wait:
            return "verification" if self.mode == "verification" else "backtracking"
        if e.code or e.heading:
            return ""
        if e.verify_late and self.reached:
            return "verification"
        if self.mode == "verification":
            outcome = len(e.body) < 40 and not (e.relation or e.arithmetic or e.aim or e.sequence)
            return self.mode if self.reached or outcome else ""
        if self.mode == "exploration_after_answer":
            return self.mode
        if self.mode == "exploration" and not (e.plan or e.concludes or e.aim) and cues.SUPPOSES(e.body):
            return self.mode
        return ""

    def _content(self, e: _Evidence, computes: bool, opening: bool) -> set[str]:
        """Content labels of a step outside checks and alternatives."""
        labels: set[str] = set()
        if cues.TO_COLON.match(e.body) and not self.worked:
            return labels
        if computes:
            labels.add("computation")
        needs = cues.TO_AIM.match(e.body) is not None
        begins = not self.worked and (e.method or (needs and opening) or (e.will and not e.sequence))
        if (not computes and (e.plan or begins)) or (e.method and not self.worked and cues.WHOLE(e.body)):
            labels.add("plan")
        elif (e.heading or e.method or e.first or needs or (e.aim and (e.sequence or not computes))) or (
            not computes and (e.sequence or e.will or e.body.endswith("?"))
        ):
            labels.add("subgoal")
        if not labels and len(e.body) > 8 and any(c.isalpha() for c in e.body):
            labels.add("verification" if self.reached else "fact")
        return labels

    def _computes(self, e: _Evidence) -> bool:
        """Whether the step produces something new: code, a result with working, or a number not seen
        before."""
        if e.code:
            return True
        new = not self.known.issuperset(e.numbers)
        if e.given and not (new and cues.DIGITS.search(e.body)):
            return False
        if (e.heading and not e.arithmetic) or e.body.endswith("?"):
            return False
        if e.body.startswith("solve ") and ":" not in e.body and not self.worked:
            return False
        if e.relation and (e.arithmetic or new or self.worked or cues.LITERAL(e.body)):
            return True
        if not any(c.isdigit() for c in e.body):
            return False
        states = cues.STATES_VALUE.search(e.body) is not None
        if (e.aim or e.plan or e.method or e.first) and not e.relation and not states:
            return False
        if e.valued and (self.worked or new or e.concludes or cues.DERIVED(e.body)):
            return True
        fresh = self.asked and new and e.numbers[-1] not in self.known
        return fresh or (e.arithmetic and (new or self.worked))


def _arrival(evidence: list[_Evidence], target: str) -> int:
    """Index of the step that reaches the answer: the last to arrive at its value before any alternative to
    it.

    Checks and tentative steps do not count; -1 when no step arrives (the answer is then reached where it is
    stated).
    """
    found = -1
    for i, e in enumerate(evidence):
        if e.final or (e.explore and found >= 0):
            break
        cued = e.explore or e.verify or e.wrong or e.heading
        if target and not cued and (e.relation or e.valued or e.arithmetic) and arrives_at(e.body, target):
            if found < 0 or (e.relation and not (e.concludes and not e.arithmetic)):
                found = i
        elif found < 0 and e.code and not target:
            found = i
    return found


def _explorations_after(labelled: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Where the answer is no value (a program): an alternative that no further work follows comes after the
    answer."""
    relabelled = list(labelled)
    work = {"computation", "subgoal", "plan", "backtracking"}
    done = any("computation" in labels for labels in labelled)
    for i in range(len(labelled) - 1, -1, -1):
        if work & set(labelled[i]):
            break
        if "exploration" in labelled[i] and done:
            relabelled[i] = tuple("exploration_after_answer" if x == "exploration" else x for x in labelled[i])
    return relabelled
