"""What gives a behaviour away: one cue per move, in general English and mathematics.

Written from the guideline in ``tests/spans/labels/GUIDELINE.md`` and from labelled halves of the real traces,
never from the embedded world's phrases. Cues look at a step in small letters whose tags and list marker are
stripped; they are evidence, and :mod:`infra.spans.behaviours` decides what the evidence means at its place in
the trace.

A cue may name triggers: substrings of which one must occur before the pattern is tried. They only save time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from infra.data.number_words import NUMBER_WORDS


@dataclass(frozen=True, slots=True)
class Cue:
    """A pattern over lower-case text and the substrings without one of which it cannot match (none: always
    try)."""

    pattern: re.Pattern[str]
    triggers: tuple[str, ...] = ()

    def search(self, text: str) -> re.Match[str] | None:
        """First match in ``text``, or None."""
        if self.triggers:
            for trigger in self.triggers:
                if trigger in text:
                    return self.pattern.search(text)
            return None
        return self.pattern.search(text)

    def __call__(self, text: str) -> bool:
        return self.search(text) is not None


def _cue(*alternatives: str, triggers: str = "") -> Cue:
    return Cue(re.compile("|".join(alternatives)), tuple(triggers.split("|")) if triggers else ())


def _or(words: str) -> str:
    return "(?:" + "|".join(words.split()) + ")"


# Layout: what stands around a step's words.
STRIP = re.compile(
    r"^(?:\s|</?\w+>|<\|\w+\|>|[-*•#>]+\s|\**\(?(?:\d{1,2}|[a-z])[.)]\**\s)+|(?:\s|</?\w+>|<\|\w+\|>)+$", re.IGNORECASE
)
NUMBER = re.compile(r"(?<![A-Za-z_\d])\d+(?:,\d{3})*(?:\.\d+)?")
NUMBER_WORD = re.compile(r"\b(?:" + "|".join(w for w, n in NUMBER_WORDS.items() if 1 <= n <= 20) + r")\b", re.I)

# The answer.
ANSWER_TAG = re.compile(r"<answer>\s*(.*?)\s*(?:</answer>|$)", re.DOTALL | re.IGNORECASE)
ANSWER_SAID = re.compile(
    r"(?:answer|solution|result)\s*(?:to the (?:problem|question)\s*)?(?:is|:|=|would be|must be|should be)"
    r"\s*(?:therefore\s*)?:?\s*([^\n]{1,80}?)(?=[.!?]*(?:\s*$|\n)|[.!?]\s)|####\s*([^\n]{1,80})",
    re.IGNORECASE,
)
FINAL = _cue(
    r"</?answer>",
    r"\\boxed\b",
    r"^####",
    r"\bfinal (?:answer|result|solution)\b",
    r"\banswer(?: to [\w\s]{1,30})?\s*(?:is|:|=|should be|must be|would be|remains|stays)",
    r"\bis (?:the|my|our) (?:\w+ )?answer\b",
    triggers="answer|boxed|####|final",
)
CONCLUDES = _cue(
    r"^(?:so|thus|therefore|hence|consequently|in conclusion|in total|finally|altogether|overall|in summary)\b"
)

# Content: plan, subgoal, computation, fact.
_DO = _or(
    "use apply check consider multiply add subtract divide sum find compute calculate determine list count solve set"
    " write factor factori[sz]e convert simplify take look recall start begin combine identify express evaluate work"
    " break split draw think examine test iterate loop try rewrite expand follow proceed go build keep compare sort"
    " handle get figure define isolate substitute plug distribute square cross-?multiply move replace remove return"
    " turn focus scan walk store track initiali[sz]e implement put deal pick choose reduce undo minimi[sz]e maximi[sz]e"
)
_DO = rf"{_DO}\b(?! (?:is|are|was|of)\b|:)"
_WE = r"(?:(?:i|we|you|let's|let us|let me|i'll|we'll|i will|we will|i can|we can)\s+)?"
_ALSO = r"(?:(?:now|then|also|next|first|just|still|must|should|can|need to|needs to|have to|want to|will|only)\s+)*"
TO_DO = re.compile(rf"^(?:first,? |now,? |next,? )?to \w+ [^\n]*?[,:]\s*{_WE}{_ALSO}(?={_DO})")
TO_FIRST = re.compile(r"^to \w+ [^\n]*?,\s*(?:\w+ ){0,2}first\b")
TO_AIM = re.compile(r"^to \w+ [^,:=]{1,80}:|^(?:we|i) (?:need|want)\b|^solve\b(?! for)")
TO_COLON = re.compile(r"^to \w+ [^,=≈]*:\W*$")
WHOLE = _cue(r"\b(?:use|using|apply|check each|check every|consider each|list all|test each|go through|inclusion)\b")
PLAN = _cue(
    r"\b(?:my|the|our|a) (?:\w+ )?(?:plan|strategy|approach|idea|method)\b",
    r"^(?:plan|strategy|approach|method|idea)\b.{0,20}:",
    r"\b(?:our|the|my) (?:goal|task|aim|job) is\b",
    r"\b(?:the|this) (?:problem|question|task|exercise) (?:requires|involves|wants|needs|can be|comes down|boils"
    r"|reduces)",
    r"^\w+ing (?:the |this |\w+ )+(?:involves|requires|means|comes down to)\b",
    r"\bcan be (?:found|computed|calculated|solved|determined|done|obtained|handled|worked out|written)"
    r" (?:by|using|with|as)\b",
    r"\bstep by step\b|\bone (?:step|piece|part|item|element) at a time\b|\bin (?:two|three|four|several) steps\b",
    r"^(?:first,? )?(?:i|we|let's|let us|let me)(?:'ll| will| can| could| should| need to| have to| want to| must)?"
    r"(?: first| just| simply)? (?:use|apply|break|split|solve|work|proceed|build|loop|iterate|go|start|begin|plan)\b",
    r"^(?:let's|let us|let me|we|i) \w+ .*\b(?:using|with the help of|by means of)\b",
    r"^(?:first,? )?(?:use|apply|follow|recall)\b(?!.*[=≈→])",
    r"\bfirst\b.{3,}\b(?:then|next|after that|afterwards|finally|followed by)\b",
    r"\bthen\b.{3,}\b(?:and then|finally|at the end|last)\b",
)
WILL = _cue(
    r"\b(?:i|we)(?:'ll| will| can| could| should| must| need to| have to| am going to| are going to| want to)\b",
    r"^(?:let's|let me|let us)\b",
    triggers="i'll|we'll|will|can|could|should|must| to|let",
)
SEQUENCE = _cue(
    r"^(?:and |so )?(?:first(?:ly)?|second(?:ly)?|third(?:ly)?|next|now|then|after that|afterwards|finally|lastly|begin"
    r"|start|step \w+)\b|\bfirst:"
)
AIM = _cue(
    rf"^(?:[^:.=]{{1,40}}: )?(?:(?:now|then|next|first|so|also|and|again|finally|lastly|second|third|after that"
    rf"|afterwards)\b,? ?)*{_WE}{_ALSO}{_DO}",
    r"^(?:the )?(?:next|first|second|last|remaining|other) (?:step|part|piece|thing|task|case)\b",
    r"^to \w+ [^,]*$|^(?:(?:first|next|now|then),? )?(?:we|i) (?:need|want|have) (?:to|the)\b",
    r"\b(?:remains|left) (?:is )?to \w+",
)
HEADING = re.compile(r"^[^=≈.!?]{1,90}:\W*$")
GIVEN = _cue(
    r"^(?:let|denote|define|suppose we call|call|assume)\b.{0,60}\b(?:be|denote|represent|as|stand for|is)\b",
    r"\bformula\b|\bby definition\b|\bis defined\b|\bis given\b|\bgiven as\b|\bnote that\b|\btheorem\b|\brule\b"
    r"|\bproperty\b|\bis (?:\w+ )?(?:when|if|exactly when)\b",
    r"^(?:given|recall|note|remember|we know|we are (?:given|told))\b",
    r"^the (?:problem|question) (?:says|states|gives|tells)\b",
    r"^(?:using|applying|by)\b[^:]*=[^:]*:\W*$",
    r"^(?:the )?\w+ (?:of|in) (?:an?|any|every|each) (?:\w+ ){1,3}(?:is|equals|are|=)",
    r"\b(?:there are|there is|we get) [\d,.]+ \w+ (?:in|to|per|for) (?:an?|one|every|each) \w+",
    r"^(?:so )?(?:an?|one|every|each|any) \w+ (?:has|have|is|means|equals|contains|lasts|consists of|holds|takes"
    r"|covers)\b",
    r"\b[\d,.]+ \w+ (?:make|in|per|to|are) (?:an?|one) \w+|\bmeans\b",
)
_OPERAND = r"[\d\])}²³⁴⁵⁶⁷⁸⁹xyznabcd]"
ARITHMETIC = _cue(
    r"\d\s*[+*/×·⋅÷^%]\s*\(?-?[\d(]|\d\)?\s+[-−–]\s+\(?[\da-z]\b|\d[-−–]\d+\s*[-+=≈]|\b\d+(?:[a-z]\b|\()",
    rf"{_OPERAND}\s*[+*×·⋅÷^]\s*[\w(√π]|\\[dt]?frac|\\times|\\cdot|\\div|√\d",
    r"\b(?:times|plus|minus|divided by|multiplied by|squared)\b|\d\s*%\s*of\b|⌊|\bfloor\(|\bmod\b",
)
DIGITS = re.compile(r"\d\s*[-+*/×·⋅÷^−]\s*\d|\d[²³]")
RELATION = _cue(r"[=≈≅≡→⇒]|->|[<>≤≥](?!\w+>)|\\(?:approx|equiv|le|ge|implies|to)\b|\bequals?\b")
RESULT = _cue(
    r"\b(?:gives?|giving|yields?|yielding|becomes?|making|leaves?|leaving|totals?|totall?ing|simplif(?:y|ies|ied)"
    r"|reduces? to|result(?:s|ing)? in|comes? (?:out )?to|amounts? to|adds? up to|sums? (?:up )?to|get|gets|obtain"
    r"|works out|turns into|evaluates? to|produces?|producing|returns?|returning)\b"
    r"[^.]*(?:\d|[\"'`\[({]|\btrue\b|\bfalse\b|\bnone\b)",
    r"\d\s*[-+*/×·÷^]\s*\d+\s+is\s+\$?-?\d",
)
# The same for values that are no numbers: "that leaves ['a', 'b']", "the word is now 'cba'".
LITERAL = _cue(
    r"\b(?:is|are|becomes?|leaves?|leaving|gives?|giving|have|has|holds?|now|to|get|gets|makes?|contains?|goes|stays"
    r"|remains?|with|as)\b\W*(?:\w+\W+){0,3}(?:(?<!\w)[\"'][^\"']*[\"'](?!\w)|\[[^\]]*\]|(?:true|false|none)\b)",
    triggers="'|\"|[|true|false|none",
)
# Which step or part is meant is no value.
ORDINAL = re.compile(r"\b(?:step|part|case|stage|operation|item|line|rule|number|round|phase|question) #?\d+\b")
# A quantity named and valued in words: "Total 5", "the smallest such k is 6", "so 15 games are needed".
VALUED = _cue(
    r"\b(?:total|sum|difference|product|ratio|area|perimeter|average|mean|median|quotient|remainder|g\.?c\.?[df]|lcm|count"
    r"|volume|common factor|factors?|divisors?|multiples)\b[^.]*?\d",
    r"\b(?:smallest|largest|greatest|least|maximum|minimum|highest|lowest|only|longest|shortest)\b[^.]*?\d",
    r"\b(?:so|thus|therefore|hence)\b,? (?:there (?:are|is) |it is |it's |we have |that is )?\$?\d",
    r"^(?:so|thus|therefore|hence)\b[^.]*\d",
    r"^(?:then|now)\b[^.]*\b(?:is|are|have|has|leaves|makes)\b[^.]*\d",
    r"\[[^\]]*,[^\]]*\]|\d, (?:and |or )?\d+,? (?:and |or )?\d",
    r"^[^.]{0,60}:\s*\$?-?\d[\d./^²³, and]*(?:\([^()]*\))?\W*$",
)
# Quantities that nobody is given: to name their value is to have worked it out.
DERIVED = _cue(r"\b(?:g\.?c\.?[df]|lcm|greatest common|least common|lowest common)\b[^.]*\bis \$?-?\d", triggers=" is ")
CODE_PIECE = _cue(
    r"`[^`]*[=(\[+*<>%][^`]*`|\w\([^()]*\)\s*(?:==|=|->|→|returns|gives)|\w+\s*(?:\+=|-=|\*=|==)\s*\w|\bfor \w+ in \w+"
    r"|\breturn \w+[(\[+*.]",
    triggers="`|(|=|for |return ",
)
STATES_VALUE = re.compile(
    r"(?::|, which is|\bto) \$?-?\d[^a-z]*\W*$|:\s*[-\d][^:]*\d\W*$|: \w/?\d|^simplify .* to \S+\W*$"
)

# Modes: verification, backtracking, exploration.
VERIFY = _cue(
    r"\b(?:double|cross|re)-?\s?check|\bre-?examin|\bre-?verif",
    r"^(?:let me |let's |let us |we |i |now |now let's |to |quick(?:ly)? |sanity |as a |a |so |also |and )*"
    r"(?:check|verify|verification|verifying|confirm|confirming|confirmation|sanity check|test|testing|proof)\b",
    r"\b(?:to|let me|let's|can|we|i|and|by) (?:verify|confirm|check)(?:ing)?\b",
    r"\b(?:verifies|verified|confirms|confirmed|checks out)\b|, confirming\b|\bsanity\b",
    r"\b(?:substitut|plug|put|insert|work|multiply|go|add)\w*\b[^.]{0,40}\bback(?:wards)?\b",
    r"\b(?:is|are|looks?|seems?|was) (?:indeed |all |also )?(?:correct|consistent|valid|reasonable|plausible|right)\b",
    r"\b(?:as expected|as required|makes sense)\b|✓|✔|✅",
    r"^\W*(?:so )?(?:correct|valid|good|yes|right|true|ok(?:ay)?|works|perfect|great)\b[^a-z]*"
    r"(?:$|(?:it|this|that|they|both|all) )",
    r"\b(?:it|this|that|everything|all) (?:works|holds|matches|fits|adds up|checks out)\b",
    r"\bboth (?:sides|methods|ways|approaches|results) (?:equal|are equal|match|agree|give|are the same|lead)",
    triggers="check|exam|verif|confirm|test|proof|sanity|back|correct|consistent|valid|reasonable|plausible|right|expected"
    "|required|sense|✓|✔|✅|good|yes|true|ok|works|perfect|great|holds|matches|fits|adds up|both",
)
# Enough only once there is something to verify.
VERIFY_LATE = _cue(
    r"\b(?:matches|agrees? with|consistent with|satisf(?:y|ies|ied|ying)|fits|fulfil\w*|as needed|ensures"
    r"|accounts for)\b",
    r"\bchecking\b|\bno other\b|\binsufficient\b|\bmeets?\b|\bsame (?:result|answer|value)\b",
)
# "Check each number's digits" is a way of solving, not a check of something obtained.
CHECK_AS_METHOD = _cue(
    r"\b(?:check|test)(?:ing)? (?:each|every|all|for|if|whether|which|how|numbers|pairs|possible|values|cases|powers"
    r"|small|different|divisib\w*|perfect|multiples|units|digits|non-?zero|\w+=\d+ to)\b",
    triggers="check|test",
)
WRONG = _cue(
    r"\b(?:mistake|oops|miscalculat\w+|misread|miscount\w*|misunderst\w+|overlooked|typo)\b",
    r"\bhold on\b|\bscratch that\b|\bstart(?:ing)? over\b|\bundo\b|\btake (?:that|it) back\b|\bgo back\b",
    r"\b(?:is|was|are|were|seems?|looks?|that's|it's|this is|be) (?:\w+ )?(?:wrong|incorrect|not right|not correct)\b",
    r"\b(?:an?|the|my|some) (?:\w+ )?(?:error|slip)\b",
    r"\b(?:can't|cannot|can not|couldn't) be (?:right|correct|true)\b",
    r"\b(?:doesn't|does not|didn't|did not|won't) (?:work|hold|match|fit|add up|make sense)\b",
    r"\bcorrection\b|\bto correct (?:this|that|it)\b|\bcontradict\w*\b",
    r"\b(?:that|this|it|which)(?:'s| is) (?:impossible|not possible|not allowed|too (?:big|small|large|low|high))\b",
    triggers="mis|oops|overlook|typo|hold on|scratch|over|undo|back|wrong|incorrect|not |error|slip|can't|cannot"
    "|couldn't|n't|correct|contradict|impossible|too ",
)
REDO = _cue(
    r"\blet me (?:correct|fix|redo|revise|recompute|recalculate|reconsider|re-?think|re-?read|retry|start again)\b",
    r"\b(?:re-?evaluat|reconsider|re-?calculat|recomput|redo|re-?think|re-?do)(?:e|ing)?\b",
    r"^(?:actually|no)\b[,.—-]|^(?:but )?wait,? no\b|\bi forgot\b|\bi (?:should have|shouldn't have)\b",
    r"\bi (?:misused|mixed up|confused|wrongly|mistakenly)\b|\binstead of\b.*\bi\b|\bi\b.*\binstead of\b",
    triggers="let me|re|actually|no|wait|i forgot|i should|i mi|i conf|i wrong|instead of",
)
WAIT = _cue(r"^(?:oh |ah |but |no,? |hmm,? |ok |so )*wait\b", triggers="wait")
IMPOSSIBLE = _cue(r"^but\b.*\b(?:can't|cannot|impossible|not allowed|must|isn't|not)\b", triggers="but")
EXPLORE = _cue(
    r"^(?:or,? |but |and )?alternatively\b|\balternatively,",
    r"\b(?:another|a different|an alternative|a second|one more) (?:\w+ )?(?:way|approach|method|route|path|idea|view"
    r"|angle|possibility|option|interpretation)\b",
    r"\balternative (?:\w+ )?(?:way|approach|method|check|solution|calculation|route|path)\b|^alternative\b",
    r"\b(?:what if|maybe|perhaps|could it be|i wonder|could also|one could|it might|might be)\b",
    r"\b(?:let's|let me|let us|i'll|i will|i|we can|we could|could) (?:also )?try\b|^try(?:ing)?\b",
    r"\b(?:guess(?:ing)?|if we instead)\b|^suppose\b(?!.*\bbe\b)|^hmm\b|\bdifferently\b",
    triggers="alternative|another|different|second|one more|what if|maybe|perhaps|could|wonder|might|try|guess|instead"
    "|suppose|hmm",
)
# A step that goes on with a hypothesis: still in the conditional, or still asking.
SUPPOSES = _cue(r"\b(?:would|could|might|if|then|suppose|assume|assuming|that way|in that case)\b|\?\W*$")
