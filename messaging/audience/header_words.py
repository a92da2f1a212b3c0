"""What the words of a header say, in many languages; the words are data, in `header_words.toml`."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from messaging.audience.words import words_of

ADDRESSES = ("email", "phone")

_NAMES = {"name", "name or half", "first_name", "last_name"}
_ADDRESS = ("anything", "people", "first", "private", "work", "second")
# Which words of the data may stand beside those of a role.
_BESIDE = {
    "email": _ADDRESS,
    "phone": _ADDRESS,
    "name": ("anything", "people"),
    "name or half": ("anything", "people"),
    "first_name": ("anything", "people"),
    "last_name": ("anything", "people"),
    "country": (*_ADDRESS, "country"),
    "language": (*_ADDRESS, "language"),
    "time_zone": (*_ADDRESS, "time_zone"),
    "consent": ("anything", "people", "consent"),
    "status": ("anything", "status"),
}

_LONGEST_PHRASE = 14  # tokens, characters of scripts without spaces
_LONGEST = 200  # characters of a header that are read
_APOSTROPHES = re.compile("['`\"\u2019\u02bc\u05f3\u05f4]")
_ELISION = re.compile("\\b(?:d|l|dell|all|qu)['\u2019]", re.IGNORECASE)  # l'email
_HUMP = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])")  # PhoneNumber
# Scripts without spaces: each character is a token, so words are found inside longer ones.
_TOKEN = re.compile("[\u3005\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]|\\d+|[^\\W\\d_]+")
_UNDECOMPOSED = str.maketrans({"\u0131": "i", "ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe"})


@dataclass(frozen=True, slots=True)
class HeaderWords:
    """What the words of one header say."""

    role: str | None
    """A role, or `name or half`."""
    sure: bool
    """Whether only known words stand beside the role's."""
    rank: tuple[int, int, int, int]
    """The best column of a role has the lowest."""
    words: frozenset[str]
    says_nothing: bool
    """Whether the header names people at most, as `Column 3` and `Contact` do."""
    kinds: frozenset[str]
    """Which tables of words it holds words of: roles, `phone: mobile`, `opted out` and so on."""

    def forbids(self, role: str) -> bool:
        """Say whether a column with such a header never holds the role, whatever its values look like."""
        if role == "name" and not self.says_nothing:
            return True  # companies, products and places are two capitalised words too
        forbidden = {"phone": "other_numbers", "country": "other_countries"}.get(role, "somebody_else")
        words = self.words & _tokens_of("never", forbidden)
        if role in ADDRESSES:
            words |= self.words & _tokens_of("never", "somebody_else")
        return bool(words or self.kinds & {"opted out", "something else"})


def read_header(column: str) -> HeaderWords:
    """Tell what the words of a column's header say."""
    tokens = _tokens(column)
    kinds, beside = _said(tokens)
    rest = frozenset(token for token in beside if not token.isdigit())
    role = _role({kind.partition(":")[0] for kind in kinds}, rest)
    known = _tokens_of("beside", *_BESIDE.get(role or "", ()))
    numbers = [int(token) for token in beside if token.isdecimal() and len(token) == 1]  # "Email 2"
    kind = 0 if "phone: mobile" in kinds else 2 if "phone: fixed" in kinds else 1
    return HeaderWords(
        role=role,
        sure=rest <= known,
        rank=(kind, _level(rest), max(numbers, default=1), len(rest)),
        words=frozenset(tokens),
        says_nothing=not kinds and rest <= _tokens_of("beside", "anything", "people"),
        kinds=frozenset(kinds),
    )


def _role(said: set[str], rest: frozenset[str]) -> str | None:
    """Decide what a header with these roles' words, and this beside them, says."""
    role: str | None = None
    for strong in ("consent", "status"):  # "Email opt-in" is no address
        if role is None and strong in said and said <= {"consent", "status", "email"}:
            role = strong
    if role is None and len(said) > 1 and said <= _NAMES:
        role = "name"  # first and last name
    if role is None and len(said) == 1:
        (role,) = said
    if role in ADDRESSES:
        return None if rest & _tokens_of("never", "somebody_else", "about_it") else role
    return role if role in _BESIDE and rest <= _tokens_of("beside", *_BESIDE[role]) else None


def _level(rest: frozenset[str]) -> int:
    for level, words in ((4, "second"), (3, "work"), (2, "private"), (0, "first")):
        if rest & _tokens_of("beside", words):
            return level
    return 1


def _said(tokens: Sequence[str]) -> tuple[set[str], list[str]]:
    """Return what the words among the tokens say, the longest first, and the tokens beside them."""
    alone = _phrases("says_alone").get("".join(tokens))
    if alone:
        return {alone}, []
    phrases = _phrases("says")
    kinds: set[str] = set()
    beside: list[str] = []
    start = 0
    while start < len(tokens):
        for end in range(min(len(tokens), start + _LONGEST_PHRASE), start, -1):
            kind = phrases.get("".join(tokens[start:end]))
            if kind:
                kinds.add(kind)
                start = end
                break
        else:
            beside.append(tokens[start])
            start += 1
    return kinds, beside


def _tokens(text: str) -> list[str]:
    """Split a header into words without case and accents."""
    bare = _APOSTROPHES.sub("", _ELISION.sub("", unicodedata.normalize("NFKC", text[:_LONGEST])))
    folded = unicodedata.normalize("NFKD", _HUMP.sub(" ", bare).casefold())
    plain = "".join(character for character in folded if not unicodedata.combining(character))
    return _TOKEN.findall(unicodedata.normalize("NFC", plain).translate(_UNDECOMPOSED))


@cache
def _phrases(table: str) -> dict[str, str]:
    return {
        "".join(_tokens(word)): kind for kind, words in words_of("header", table).items() for word in words
    }


@cache
def _tokens_of(table: str, *keys: str) -> frozenset[str]:
    return frozenset(
        token for key in keys for word in words_of("header", table)[key] for token in _tokens(word)
    )
