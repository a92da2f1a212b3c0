"""Why a mail came back: rules that are data, the longest evidence first, words before codes.

Order of belief: the words of the diagnostic, the enhanced code that the server said, the code of the report,
the words around it, weak words, the reply code. On public bounces a code alone misleads: Exim writes
5.0.0 for everything, Microsoft says 5.4.1 for mailboxes that do not exist.
"""

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from schemas.bounces import BounceClass, BounceReason, Suppress

_BY_WORDS = 0.95
_BY_WORDS_AND_CODE = 0.99
_BY_CODE = 0.85
_BY_OTHER_WORDS = 0.75
_BY_WEAK_WORDS = 0.6
_BY_REPLY = 0.4
_BY_NOTHING = 0.2

_GRAM = 4
_LONGEST_TEXT = 3000
_SHORT = 5  # a word so short must stand alone, or it is found in others
_STAR = ".{0,60}?"
_OPEN_END = ".{0,60}"

_ADDRESS = re.compile(
    r"<?(?<![\w.+\-=/!#$%&'^~{}|])[\w.+\-=/!#$%&'^~{}|]{1,64}@(?:[\w-]{1,63}\.){0,9}[\w-]{1,63}>?"
)
_CODE = re.compile(
    r"[245](?<![\w.:/\[-].)\d\d(?:[ -]+(?=\S)|(?=\s|$))(?:#?[245]\.\d{1,3}\.\d{1,3}(?![.\d])[ :;]*)?"
)
_QUOTES = str.maketrans(
    {"\u2019": "'", "\u2018": "'", "\u00b4": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"'}
)
_LETTERS = {"ß": "ss", "ø": "o", "ł": "l", "\u0131": "i", "æ": "ae", "đ": "d"}

# IronPort puts the meaning it reads from the code before what the server said: not evidence.
_GLOSS = re.compile(r"\b[45]\.\d\.\d - [a-z ]{5,60} [45]\d\d[-' ]")


_SAID = re.compile(
    r"\b(?:said|replied|responded|(?:server|host) returned|response (?:from the remote server )?was|an error)"
    r"\s*:\s*|\bremote server returned\s+(?=['\"]\d)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A reason, the rule that gave it and how far to believe it (0 to 1)."""

    reason: BounceReason
    rule: str
    confidence: float


@dataclass(frozen=True, slots=True)
class _Rule:
    reason: BounceReason
    text: str
    hint: str
    """A part without a star: looked for before the pattern."""
    pattern: re.Pattern[str] | None


class _Rules:
    """Rules by four letters that each must find: of thousands, a text has the letters of a few."""

    def __init__(self, rules: list[_Rule]) -> None:
        """File each rule under those of its letters that fewest others have."""
        counts = Counter(gram for rule in rules for gram in _grams(rule.hint))
        self._filed: dict[str, list[_Rule]] = {}
        self._short = [rule for rule in rules if len(rule.hint) < _GRAM]
        for rule in rules:
            if grams := _grams(rule.hint):
                self._filed.setdefault(min(grams, key=counts.__getitem__), []).append(rule)

    def within(self, text: str) -> Iterator[_Rule]:
        """Yield the rules whose words are in a text."""
        for gram in _grams(text) & self._filed.keys():
            for rule in self._filed[gram]:
                if rule.hint in text:
                    yield rule
        for rule in self._short:
            if rule.hint in text:
                yield rule


@dataclass(frozen=True, slots=True)
class _Table:
    says: _Rules
    hints: _Rules
    classes: dict[BounceReason, BounceClass]
    suppress: dict[BounceReason, Suppress]
    codes: dict[str, BounceReason]


def class_of(reason: BounceReason) -> BounceClass:
    """Return what a reason means for the recipient."""
    return _table().classes[reason]


def suppression(reason: BounceReason) -> Suppress:
    """Return when a reason is enough to stop writing to the address."""
    return _table().suppress[reason]


def folded(text: str) -> str:
    """Return text as rules see it: lower case, no accents, addresses as @, reply codes left out."""
    text = text[:_LONGEST_TEXT].lower()
    if not text.isascii():
        text = _without_accents(text.translate(_QUOTES))
    text = " ".join(text.split())
    if " - " in text:
        text = _GLOSS.sub(" ", text)
    if "@" in text:
        text = _ADDRESS.sub("@", text)
    return " ".join(_CODE.sub(" ", text).split())


def judge(
    words: Iterable[str], context: Iterable[str] = (), *, said: str = "", status: str = "", reply: str = ""
) -> Judgement:
    """Return why a mail came back.

    Args:
        words: What was said about this recipient, best first: the diagnostic, the paragraph that names it.
        context: More of the report, best first; believed less than the codes.
        said: The enhanced code within those words.
        status: The enhanced code of the report's `Status` field.
        reply: The three digits of the SMTP reply.
    """
    texts = [folded(quoted) for text in words for quoted in _innermost(text)]
    table = _table()
    by_code, code = _reason_of_code(said or status)
    if not by_code and said:
        by_code, code = _reason_of_code(status)
    if rule := next(filter(None, (_longest(table.says, text, by_code) for text in texts)), None):
        agreed = by_code is not None and class_of(by_code) is class_of(rule.reason)
        return Judgement(rule.reason, rule.text, _BY_WORDS_AND_CODE if agreed else _BY_WORDS)
    if by_code:
        return Judgement(by_code, code, _BY_CODE)
    return _guess(texts, context, said or status, reply)


def _guess(texts: list[str], context: Iterable[str], status: str, reply: str) -> Judgement:
    """Judge by what says little: words further away, weak words, codes without a detail."""
    table = _table()
    if rule := next(filter(None, (_longest(table.says, folded(text)) for text in context)), None):
        return Judgement(rule.reason, rule.text, _BY_OTHER_WORDS)
    general, code = _reason_of_code(status, general=True)
    refused_by_policy = status[2:].startswith("7.")  # then a weak word must not blame the recipient
    if not refused_by_policy and (
        rule := next(filter(None, (_longest(table.hints, text) for text in texts)), None)
    ):
        return Judgement(rule.reason, rule.text, _BY_WEAK_WORDS)
    if not general:
        general, code = _REPLIES.get(reply), reply
    if general:
        return Judgement(general, code, _BY_REPLY)
    return Judgement(BounceReason.UNKNOWN, "", _BY_NOTHING)


# RFC 5321, 4.2.2; 550 is said for everything and so says nothing.
_REPLIES = {
    "421": BounceReason.SYSTEM,
    "422": BounceReason.MAILBOX_FULL,
    "432": BounceReason.SYSTEM,
    "441": BounceReason.NETWORK,
    "442": BounceReason.NETWORK,
    "450": BounceReason.SYSTEM,
    "451": BounceReason.SYSTEM,
    "452": BounceReason.SYSTEM_FULL,
    "454": BounceReason.SYSTEM,
    "511": BounceReason.USER_UNKNOWN,
    "512": BounceReason.HOST_UNKNOWN,
    "521": BounceReason.NO_MAIL_ACCEPTED,
    "523": BounceReason.TOO_BIG,
    "530": BounceReason.SECURITY,
    "535": BounceReason.SECURITY,
    "541": BounceReason.SPAM,
    "551": BounceReason.MOVED,
    "552": BounceReason.MAILBOX_FULL,
    "553": BounceReason.POLICY,
    "554": BounceReason.POLICY,
    "556": BounceReason.NO_MAIL_ACCEPTED,
    "571": BounceReason.POLICY,
}

_SAYS_LITTLE = {"0.0", "1.0", "2.0", "3.0", "4.0", "5.0", "6.0", "7.0", "7.1", "3.5", "5.1"}
"""Subjects without a detail, and codes that servers give when they have no better."""


def _reason_of_code(status: str, *, general: bool = False) -> tuple[BounceReason | None, str]:
    detail = status[2:]
    if not detail or (detail in _SAYS_LITTLE) is not general:
        return None, status
    if status[0] == "4" and detail in _FOR_LATER:
        return _FOR_LATER[detail], status
    codes = _table().codes
    return codes.get(detail), status


# With a 4 in front these say "not now" (RFC 3463, 2; greylisting servers say 4.7.1 and 4.2.0).
_FOR_LATER = {
    "1.0": BounceReason.SYSTEM,
    "1.1": BounceReason.SYSTEM,
    "1.2": BounceReason.NETWORK,
    "1.8": BounceReason.SENDER_REFUSED,
    "4.4": BounceReason.NETWORK,
    "2.0": BounceReason.SYSTEM,
    "2.1": BounceReason.SYSTEM,
    "3.2": BounceReason.SYSTEM,
    "7.0": BounceReason.TOO_MANY,
    "7.1": BounceReason.GREYLISTED,
}


def _innermost(text: str) -> list[str]:
    """Return what the last server in a chain said, then all of it."""
    ends = [match.end() for match in _SAID.finditer(text)]
    return [text[ends[-1] :], text] if ends else [text]


def _longest(rules: _Rules, text: str, by_code: BounceReason | None = None) -> _Rule | None:
    """Return the rule with the longest evidence; words that say what the code says go before longer ones."""
    best, most = None, (False, 0, 0, "")
    for rule in rules.within(text):
        length = _evidence(rule, text)
        evidence = (rule.reason is by_code, length, len(rule.hint), rule.reason)
        if length and evidence > most:
            best, most = rule, evidence
    return best


def _grams(text: str) -> set[str]:
    return {text[at : at + _GRAM] for at in range(len(text) - _GRAM + 1)}


def _evidence(rule: _Rule, text: str) -> int:
    """Return the length of what a rule finds; none begins inside a word, none so short ends there."""
    if rule.pattern:
        match = rule.pattern.search(text)
        return len(match[0]) if match else 0
    size = len(rule.hint)
    at = text.find(rule.hint)
    while at >= 0:
        before = text[at - 1 : at]
        after = text[at + size : at + size + 1]
        if not _joins(before, rule.hint[0]) and not (size <= _SHORT and _joins(after, rule.hint[-1])):
            return size
        at = text.find(rule.hint, at + 1)
    return 0


def _joins(neighbour: str, letter: str) -> bool:
    """Whether two characters are of one word; scripts without blanks between words have no such ends."""
    return neighbour.isalnum() and neighbour.isascii() and letter.isalnum() and letter.isascii()


def _without_accents(text: str) -> str:
    for letter, plain in _LETTERS.items():
        text = text.replace(letter, plain)
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


@cache
def _table() -> _Table:
    data = tomllib.loads(resources.files(__package__).joinpath("reasons.toml").read_text("utf-8"))
    codes = {detail: BounceReason(reason) for detail, reason in data.pop("codes").items()}
    return _Table(
        says=_Rules(
            [_rule(BounceReason(name), row) for name, rows in data.items() for row in rows.get("says", ())]
        ),
        hints=_Rules(
            [_rule(BounceReason(name), row) for name, rows in data.items() for row in rows.get("hints", ())]
        ),
        classes={BounceReason(name): BounceClass(rows["class"]) for name, rows in data.items()},
        suppress={BounceReason(name): Suppress(rows["suppress"]) for name, rows in data.items()},
        codes=codes,
    )


def _rule(reason: BounceReason, row: str) -> _Rule:
    text = _without_accents(row.lower())
    if "*" not in text:
        return _Rule(reason, row, text, None)
    pattern = _STAR.join(map(re.escape, text.removesuffix("*").split("*"))) + (
        _OPEN_END if text.endswith("*") else ""
    )
    return _Rule(reason, row, max(text.split("*"), key=len), re.compile(r"(?<![a-z0-9])" + pattern))
