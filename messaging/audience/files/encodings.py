"""Bytes made text: which encoding a file is in, and its content as UTF-8, a block at a time."""

import codecs
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise

from messaging.audience.files.languages import Spelling, common_characters, lowered, spelling
from messaging.errors import InputError

BLOCK_BYTES = 4 << 20
_LOOKED_AHEAD = 32 << 20  # of a stream that cannot be read twice, until it says something beyond ASCII
_WINDOW_BYTES = 256 << 10
_SAMPLE_LINES = 200
_SAMPLE_TOKENS = 600
_LONGEST_SAMPLE_LINE = 2_000
_SHARE_UNDECODED = 0.1  # of the lines beyond ASCII: above it, the encoding that was given is not the file's

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its BOM begins with theirs
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = ("utf-16", "utf-32")
_NOT_OF_FILES = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"}
_LINE_BEYOND_ASCII = re.compile(rb"[^\r\n\x80-\xff]*+([\x80-\xff])[^\r\n]*")
_SOME_ASCII = re.compile(rb"[\0-\x7f]")
_UNDECODED = re.compile("[\udc80-\udcff]")
# What stands for bytes that an encoding does not know: no UTF-8 text has this byte.
_NO_TEXT = "\udcff"
codecs.register_error("outflow-no-text", lambda error: (_NO_TEXT, _end_of(error)))


def _end_of(error: UnicodeError) -> int:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.end


@dataclass(frozen=True, slots=True)
class Text:
    """A text file's content in UTF-8, without BOM; bytes that are no text stay, so their rows can be told."""

    encoding: str
    notes: list[str]
    head: bytes
    """The first block."""
    blocks: Iterator[bytes]
    """All blocks, the first too."""


def legible(text: str) -> str:
    """Show bytes that were no text as they most likely read, for a person to mend."""
    return _UNDECODED.sub(_as_western, text)


def _as_western(undecoded: re.Match[str]) -> str:
    if undecoded[0] == _NO_TEXT:
        return "\ufffd"
    return bytes([ord(undecoded[0]) - 0xDC00]).decode("cp1252", "replace")


def read_text(file: io.BufferedReader, name: str, given: str | None) -> Text:
    """Tell a file's encoding, or take the one `given`, and return its content.

    Raises:
        InputError: There is no such encoding, or the file is no text in it.
    """
    held = [file.read(BLOCK_BYTES)] if given else []
    if given:
        guess = Guess(_with_order(_checked(given), held[0]), [])
    else:
        guess, held = _detect(file, name)
    encoding, notes = guess.encoding, guess.notes
    utf8 = _as_utf8(chain(held, _blocks(file)), encoding)
    head = next(utf8, b"").removeprefix(codecs.BOM_UTF8)
    if given and _is_other(held[0], head, encoding):
        raise _not_in(encoding, held[0], name)
    return Text(encoding, notes, head, chain([head], utf8))


def _with_order(encoding: str, content: bytes) -> str:
    """Say in which order the bytes stand where neither the name nor a byte order mark does."""
    marks = tuple(bom for bom, marked in _BOMS if marked.startswith(encoding))
    if encoding not in _WIDE or content.startswith(marks):
        return encoding
    form = _unicode_by_form(content) or ""
    return form if form.startswith(encoding) else f"{encoding}-le"


def _is_other(content: bytes, head: bytes, encoding: str) -> bool:
    """Say whether a file's beginning is clearly not in the encoding that was given; `head` is its text."""
    is_wide = (_unicode_by_form(content) or "").startswith(_WIDE)
    if encoding.startswith(_WIDE):
        # Delimiters, line ends and addresses are ASCII in every language.
        if not _SOME_ASCII.search(head):
            return bool(head)
    elif is_wide:
        return True
    lines = [found[0] for found in _LINE_BEYOND_ASCII.finditer(head)]
    undecoded = sum(1 for line in lines if not _is_utf8(line))
    return undecoded > _SHARE_UNDECODED * len(lines) + 1


def _not_in(encoding: str, content: bytes, name: str) -> InputError:
    """Say where a file leaves the encoding that was given, and what it looks like."""
    place = 0
    try:
        codecs.getincrementaldecoder(encoding)().decode(content)
    except UnicodeDecodeError as error:
        place = error.start
    line = content.count(b"\n", 0, place) + 1
    looks = _detect(io.BufferedReader(io.BytesIO(content)), name)[0].encoding
    return InputError(
        f"{name} is not in {encoding}: byte {place + 1:,}, in line {line:,}, cannot be read so, and the file "
        f"looks like {looks}. Leave --encoding out, or give another one"
    )


def _checked(given: str) -> str:
    try:
        codec = codecs.lookup(given).name
        bytes(4).decode(codec)  # refuses what is no encoding of text, such as base64
    except (LookupError, ValueError, UnicodeError):
        codec = "undefined"
    if codec in _NOT_OF_FILES:
        raise InputError(f"there is no encoding {given!r}: give one such as utf-8, cp1252, cp1250 or cp1251")
    return codec


def _blocks(file: io.BufferedReader) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _as_utf8(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    if encoding in ("utf-8", "ascii"):
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(encoding)("outflow-no-text")
    for block in blocks:
        yield decoder.decode(block).encode(errors="surrogateescape")
    yield decoder.decode(b"", final=True).encode(errors="surrogateescape")


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


# Detection


@dataclass(frozen=True, slots=True)
class Guess:
    """The encoding a file is read in, and what the person should know of it."""

    encoding: str
    notes: list[str]


def _detect(file: io.BufferedReader, name: str) -> tuple[Guess, list[bytes]]:
    """Return a guess, and the blocks that had to be read for it and will not be read again."""
    held = [file.read(BLOCK_BYTES)]
    if encoding := _unicode_by_form(held[0]):
        return Guess(encoding, []), held
    seen = _Seen()
    for start in range(0, len(held[0]), _WINDOW_BYTES):
        seen.add(held[0][start : start + _WINDOW_BYTES])
    if file.seekable():
        place = file.tell()
        _look_further(file, seen)
        file.seek(place)
    else:
        while seen.is_ascii and len(held) * BLOCK_BYTES < _LOOKED_AHEAD and (block := file.read(BLOCK_BYTES)):
            held.append(block)
            seen.add(block)
    seen.add(b"\n")  # no character may be cut off at the end
    if seen.is_utf8:
        return Guess("utf-8", []), held
    if seen.is_legacy:
        return guess_legacy(seen.lines, name), held
    note = f"{name} is UTF-8, but not all of it: rows with other bytes are refused"
    return Guess("utf-8", [note]), held


def _look_further(file: io.BufferedReader, seen: "_Seen") -> None:
    """Look at all of a file, so that one called UTF-8 is; at parts of it once it is known not to be."""
    while not seen.is_told and (block := file.read(_WINDOW_BYTES)):
        seen.add(block)
    if seen.is_told:
        place = file.tell()
        size = file.seek(0, io.SEEK_END)
        for window in (size // 2, size - _WINDOW_BYTES):
            if window > place:
                file.seek(window)
                seen.add(file.read(_WINDOW_BYTES).partition(b"\n")[2])


def _unicode_by_form(head: bytes) -> str | None:
    """Tell UTF-16, UTF-32 and ISO-2022-JP, which look like nothing else, and what has a BOM."""
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding
    if b"\x1b$" in head and head.isascii():
        return "iso2022_jp"
    beginning = head[:4096]
    quarter = max(len(beginning) // 4, 1)
    nul = [beginning[place::4].count(0) / quarter for place in range(4)]
    # Delimiters, line ends and addresses are ASCII in every language.
    if min(nul[1:]) > 0.8 > nul[0]:  # noqa: PLR2004
        return "utf-32-le"
    if min(nul[:3]) > 0.8 > nul[3]:  # noqa: PLR2004
        return "utf-32-be"
    even, odd = nul[0] + nul[2], nul[1] + nul[3]
    for few, many, encoding in ((even, odd, "utf-16-le"), (odd, even, "utf-16-be")):
        if many > 0.4 and few < many / 10:  # noqa: PLR2004 - few: U+0100, U+4E00 and their like
            return encoding
    return None


class _Seen:
    """What a walk over a file's bytes told: lines that speak for UTF-8 and lines that speak against it."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        """A sample of lines that are no UTF-8."""
        self._good = self._bad = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    @property
    def is_ascii(self) -> bool:
        return not self._good + self._bad

    @property
    def is_utf8(self) -> bool:
        return not self._bad

    @property
    def is_legacy(self) -> bool:
        """Hardly a line of a legacy text is UTF-8 by chance; most lines of a mixed text are."""
        return self._bad > self._good

    @property
    def is_told(self) -> bool:
        """Whether to look further would change nothing: one line does not make a text a legacy one."""
        return self._bad > self._good + _SAMPLE_LINES // 2

    def add(self, block: bytes) -> None:
        """Look at the next block; lines that it cuts are looked at as they are cut."""
        begun = self._decoder.getstate()[0]  # a character that the last block cut
        if block.isascii() and not begun:
            return
        try:
            self._decoder.decode(block)
        except UnicodeDecodeError as error:
            self._decoder.reset()
            block = begun + block
            first = max(block.rfind(b"\n", 0, error.start), block.rfind(b"\r", 0, error.start), 0)
        else:
            self._good += _SAMPLE_LINES
            return
        self._good += sum(1 for _ in islice(_LINE_BEYOND_ASCII.finditer(block, 0, first), _SAMPLE_LINES))
        for found in islice(_LINE_BEYOND_ASCII.finditer(block, first), _SAMPLE_LINES):
            if _is_utf8(found[0]):
                self._good += 1
            else:
                self._bad += 1
                start = max(found.start(1) - found.start() - _LONGEST_SAMPLE_LINE // 2, 0)
                self.lines.append(found[0][start : start + _LONGEST_SAMPLE_LINE])


# Legacy encodings: whose letters do the bytes make, and do they stand where that language puts them?
#
# Each reading of the sample is scored as a sum of logarithms of likelihoods, so readings compare whatever
# their number of bytes for a letter.

_WEST = (
    "Spanish",
    "Portuguese",
    "French",
    "Italian",
    "German",
    "Dutch",
    "Nordic",
    "Icelandic",
    "Catalan",
    "Albanian",
)
_CENTRAL = ("Polish", "Czech", "Hungarian", "Romanian", "South Slavic", "German")
_SLAVIC = ("Russian", "Ukrainian", "Bulgarian", "Serbian")
_CODECS: tuple[tuple[str, str, tuple[str, ...], float], ...] = (
    # codec, in words, languages, how rare it is: only decides between equals
    ("cp1252", "Western European", _WEST, 0),
    ("iso8859_15", "Western European, ISO", _WEST, 2),
    ("mac_roman", "Western European, old Mac", _WEST, 3),
    ("cp850", "Western European, DOS", _WEST, 4),
    ("cp1250", "Central European", _CENTRAL, 1),
    ("iso8859_2", "Central European, ISO", _CENTRAL, 2),
    ("mac_latin2", "Central European, old Mac", _CENTRAL, 5),
    ("cp852", "Central European, DOS", _CENTRAL, 4),
    ("cp1254", "Turkish", ("Turkish",), 1),
    ("mac_turkish", "Turkish, old Mac", ("Turkish",), 5),
    ("cp857", "Turkish, DOS", ("Turkish",), 5),
    ("cp1257", "Baltic", ("Baltic",), 1),
    ("cp775", "Baltic, DOS", ("Baltic",), 5),
    ("cp1251", "Cyrillic", _SLAVIC, 0),
    ("koi8_r", "Cyrillic, KOI8", ("Russian", "Bulgarian"), 2),
    ("koi8_u", "Cyrillic, KOI8", ("Ukrainian",), 3),
    ("mac_cyrillic", "Cyrillic, old Mac", _SLAVIC, 3),
    ("cp866", "Cyrillic, DOS", _SLAVIC, 3),
    ("iso8859_5", "Cyrillic, ISO", _SLAVIC, 4),
    ("cp1253", "Greek", ("Greek",), 0),
    ("iso8859_7", "Greek, ISO", ("Greek",), 1),
    ("mac_greek", "Greek, old Mac", ("Greek",), 4),
    ("cp737", "Greek, DOS", ("Greek",), 4),
    ("cp1255", "Hebrew", ("Hebrew",), 0),
    ("cp862", "Hebrew, DOS", ("Hebrew",), 3),
    ("cp1256", "Arabic", ("Arabic",), 0),
    ("iso8859_6", "Arabic, ISO", ("Arabic",), 3),
    ("cp874", "Thai", ("Thai",), 0),
    ("gb18030", "Chinese", ("Chinese",), 0),
    ("cp950", "Chinese, Big5", ("Taiwanese",), 0),
    ("cp932", "Japanese, Shift_JIS", ("Japanese",), 0),
    ("euc_jp", "Japanese, EUC", ("Japanese",), 1),
    ("cp949", "Korean", ("Korean",), 0),
)
_SIGNS = [("\u3000", "\u303f", -5.0), ("\uff00", "\uff60", -5.0)]
_KANA = [("\u3040", "\u30ff", -3.5), ("\uff61", "\uff9f", -5.0), *_SIGNS]
_RANGES = {  # characters from and to, and their likelihood
    "gb18030": _SIGNS,
    "cp950": _SIGNS,
    "cp932": _KANA,
    "euc_jp": _KANA,
    "cp949": [("\uac00", "\ud7a3", -7.0), *_SIGNS],
}
# First bytes of the characters that schools teach; the rest are rare.
_SCHOOL = {
    "gb18030": (0xB0, 0xD7),
    "cp950": (0xA4, 0xC6),
    "cp932": (0x88, 0x97),
    "euc_jp": (0xB0, 0xCF),
    "cp949": (0, 0),
}

_IMPOSSIBLE = -14.0  # a control character, or a byte the codec does not know
_FOREIGN = -8.0  # a letter that the language does not use
_SYMBOL_IN_WORD = -8.0
_RARE_SYMBOL = -6.0
_USUAL_SYMBOL = -2.5
_OTHER_LANGUAGE = -3.0  # for a word that is another language's: lists hold people of several countries
_SURE = 12.0  # by this much the best reading is likelier than the next that differs
_PLAUSIBLE = -4.8  # for a byte; below it even the best reading is no language we know
_WORDS_SHOWN = 5

_APOSTROPHES = "\u2019\xb7"  # d\u2019Alembert, Paral\xb7lel
_USUAL_SYMBOLS = (
    "\u2018\u2019\u201c\u201d\u201e\xab\xbb\u2013\u2014\u2026\u2022\u20ac\xa3\xb0\xba\xaa"
    "\xbf\xa1\xa7\xa9\xae\u2122\xb7\xa0\u2116"
)
_BEYOND_ASCII = bytes(range(0x80, 0x100))
_WORD = re.compile(r'[^\s,;|"<>()@]+')
_TOKEN = re.compile(rb"[0-9A-Za-z\x80-\xff]*[\x80-\xff][0-9A-Za-z\x80-\xff]*")


def guess_legacy(lines: Iterable[bytes], name: str) -> Guess:
    """Tell the encoding of lines that are no Unicode by what they would read as."""
    sample = list(dict.fromkeys(lines))[:_SAMPLE_LINES]
    # A word that is there a hundred times is no better evidence than one that is there once.
    tokens = list(dict.fromkeys(token for line in sample for token in _TOKEN.findall(line)))[:_SAMPLE_TOKENS]
    scored = sorted(
        (
            (_score(codec, languages, sample, tokens) - rarity, codec)
            for codec, _, languages, rarity in _CODECS
        ),
        reverse=True,
    )
    best, encoding = scored[0]
    for score, other in scored[1:]:
        if best - score > _SURE and best > _PLAUSIBLE * _beyond_ascii(tokens):
            break
        if words := _differing(sample, encoding, other):
            said = next(said for codec, said, *_ in _CODECS if codec == encoding)
            shown = ", ".join(f'"{word}"' for word in words)
            guessed = f"{name} is read as {encoding} ({said}), which is a guess: it gives {shown}"
            return Guess(encoding, [f"{guessed}; if that is wrong, give --encoding {other}"])
    return Guess(encoding, [])


def _score(codec: str, languages: Sequence[str], sample: Sequence[bytes], tokens: Sequence[bytes]) -> float:
    """Return how likely the sample is when read in the codec, in the language that fits it best."""
    if codec in _RANGES:
        # Words of these cannot be told before they are decoded, so lines stand for as many bytes of words.
        common = common_characters(languages[0])
        score = sum(_score_of_characters(line, codec, common) for line in sample)
        return score * _beyond_ascii(tokens) / _beyond_ascii(sample)
    words = [token.decode(codec, "replace") for token in tokens]
    by_language = [[_score_of_word(word, language) for word in words] for language in languages]
    best = [max(scores) + _OTHER_LANGUAGE for scores in zip(*by_language, strict=True)]
    if not spelling(languages[0]).is_latin and all(map(_is_western, words)):
        return -math.inf  # nobody saves a text as Thai for its quotation marks
    totals: list[float] = [sum(map(max, zip(scores, best, strict=True))) for scores in by_language]
    return max(totals)


def _is_western(word: str) -> bool:
    return not any(letter.isalpha() and letter > "\u024f" for letter in word)


def _beyond_ascii(texts: Iterable[bytes]) -> int:
    return sum(len(text) - len(text.translate(None, _BEYOND_ASCII)) for text in texts)


def _score_of_word(word: str, language: str) -> float:
    spelt = spelling(language)
    return sum(
        _score_of_letter((before, letter, after), spelt)
        for before, letter, after in zip(f" {word}", word, f"{word[1:]} ", strict=False)
        if not letter.isascii()
    )


def _score_of_letter(triple: tuple[str, str, str], spelt: Spelling) -> float:
    before, letter, after = triple
    lower = lowered(letter)
    likelihood = spelt.letters.get(lower)
    if likelihood is None:
        return _FOREIGN if letter.isalpha() else _score_of_symbol(triple, is_latin=spelt.is_latin)
    for pair in ((lowered(before), lower), (lower, lowered(after))):
        if pair in spelt.pairs:
            likelihood += 0.8
        elif spelt.is_latin:
            # Two such letters side by side are rare where most letters are ASCII.
            likelihood -= 0.6 if any(map(str.isascii, pair)) else 2.6
        else:
            likelihood -= 0.8
            likelihood -= 5.0 if any(each.isascii() and each.isalpha() for each in pair) else 0
    if before.isdigit() or after.isdigit():
        likelihood -= 4.0
    if letter.isupper() and before.islower():
        likelihood -= 4.0
    if letter.islower() and before.isupper() and after.isupper():
        likelihood -= 2.5
    return likelihood


def _score_of_symbol(triple: tuple[str, str, str], *, is_latin: bool) -> float:
    before, symbol, after = triple
    if symbol == "\ufffd" or unicodedata.category(symbol) in ("Cc", "Cn", "Co"):
        return _IMPOSSIBLE
    if before.isalpha() and after.isalpha():
        return _USUAL_SYMBOL if is_latin and symbol in _APOSTROPHES else _SYMBOL_IN_WORD
    return _USUAL_SYMBOL if symbol in _USUAL_SYMBOLS else _RARE_SYMBOL


def _score_of_characters(line: bytes, codec: str, common: frozenset[str]) -> float:
    try:
        text = codecs.getincrementaldecoder(codec)().decode(line)  # a character cut off at the end is no harm
    except UnicodeDecodeError:
        return _IMPOSSIBLE * _beyond_ascii([line])
    total = 0.0
    for before, character in pairwise(f" {text}"):
        if character.isascii():
            total -= 2.0 * (character.isalpha() and not before.isascii())
            continue
        total += _score_of_character(character, codec, common)
        total -= 2.0 * (before.isascii() and before.isalpha())
    return total


def _score_of_character(character: str, codec: str, common: frozenset[str]) -> float:
    """Everyday characters are likely; others as far as the codec has them among those of school."""
    if character in common:
        return -4.0
    for first, last, score in _RANGES[codec]:
        if first <= character <= last:
            return score
    if "\u4e00" <= character <= "\u9fff":
        first_byte = character.encode(codec)[0]
        low, high = _SCHOOL[codec]
        return -8.5 if low <= first_byte <= high else -12.0
    return -12.0


def _differing(sample: Sequence[bytes], encoding: str, other: str) -> list[str]:
    """Return some words of the sample as they read, from lines that the other encoding reads otherwise."""
    found: dict[str, None] = {}
    for line in sample:
        text = line.decode(encoding, "replace")
        if text != line.decode(other, "replace"):
            found |= dict.fromkeys(word for word in _WORD.findall(text) if not word.isascii())
    return list(found)[:_WORDS_SHOWN]
