"""People in prose, lists and signatures: addresses and numbers, with the names that stand beside them."""

import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import phonenumbers
import polars as pl
from phonenumbers import Leniency, PhoneNumberFormat, PhoneNumberMatch, PhoneNumberMatcher

from messaging.audience.files.encodings import Text, legible, read_text
from messaging.audience.files.heading import rows_frame
from messaging.audience.files.layout import Layout, Reading, ReadOptions
from messaging.errors import InputError

HEADER = ["Name", "E-mail", "Phone"]

_ROWS_AT_ONCE = 2_000  # about a second's work: whoever waits must see that it goes on
_LONGEST_PIECE = 4_000  # characters looked at together: a line of recipients may be a book
_LONGEST_LINE = 4 << 20  # bytes
_FEWEST_DIGITS = 6
_MOST_TRIES = 1_000  # of the matcher in one piece
_MOST_WORDS, _MOST_WITH_PARTICLES = 4, 7
_SHORTEST_LIKENESS = 3  # letters that a name and an address share
_BETWEEN = "; "  # several addresses or numbers of one person

# Words before a colon or a number, and no names themselves; case does not matter.
_LABELS = {
    "name": (
        "name, full name, contact, contact name, nombre, "
        "nombre completo, nom, nom complet, nome, naam, "  # codespell:ignore
        "namn, kontakt, ansprechpartner, ansprechpartnerin, contacto, имя, фио, контакт, контактное лицо, "
        "الاسم, 姓名, 氏名, 名前, fn"
    ),
    "first": (
        "first name, given name, forename, vorname, prenom, prénom, nombre de pila, "
        "nome proprio"  # codespell:ignore
    ),
    "last": "last name, surname, family name, nachname, familienname, apellido, apellidos, nom de famille",
    "email": (
        "e, e-mail, email, e mail, mail, e-mail address, email address, mailto, correo, correo electrónico, "
        "courriel, adresse e-mail, mél, e-post, posta, "  # codespell:ignore
        "e-mail-adresse, почта, эл. почта, электронная почта, "
        "البريد, البريد الإلكتروني, 邮箱, メール"
    ),
    "phone": (
        "t, p, m, tel, phone, telephone, mobile, cell, cell phone, mob, whatsapp, telefon, telefono, "
        "teléfono, tel. móvil, móvil, movil, mobil, handy, celular, tlf, tfno, téléphone, tél, portable, "
        "gsm, telefoon, telefone, cellulare, office, work, home, direct, büro, privat, oficina, bureau, тел, "
        "телефон, моб, мобильный, рабочий, вотсап, الهاتف, هاتف, جوال, الجوال, واتساب, "
        "电话, 手机, 電話, 携帯, phone number, mobile number, número, rufnummer, telefonnummer, handynummer"
    ),
    "fax": "fax, telefax, факс, فاكس, 传真",
    "other": (
        "company, organisation, organization, org, title, role, address, adr, city, country, website, web, "
        "url, note, notes, birthday, bday, photo, rev, version, "
        "prodid, uid, categories, firma, adresse, "  # codespell:ignore
        "stadt, ort, empresa, dirección, ciudad, entreprise, société, ville, компания, адрес, город, "
        "position, department, from, to, cc, bcc, reply-to, subject, date, sent, von, an, betreff, gesendet, "
        "de, para, asunto, à, objet, от, кому, копия, тема, per, via"  # codespell:ignore
    ),
}
_NO_NAMES = (
    "call, contact, write, please, dear, hello, hi, hey, the, our, your, my, me, us, we, you, or, and, for, "
    "reach, text, ask, send, sales, support, team, info, service, help, desk, helpdesk, hotline, customer, "
    "reception, manager, director, head, chief, officer, ceo, cto, cfo, engineer, consultant, assistant, "
    "secretary, department, limited, ltd, inc, llc, plc, gmbh, ag, kg, sl, sa, sarl, spa, bv, group, "
    "company, university, street, st, road, avenue, regards, best, thanks, kind, sincerely, sent, iphone, "
    "number, numbers, address, addresses, emergency, available, questions, see, also, new, today, tomorrow, "
    "monday, tuesday, wednesday, thursday, friday, saturday, sunday, "
    "bitte, rufen, anrufen, schreiben, melden, sie, uns, ihre, unser, "  # codespell:ignore
    "unsere, unter, oder, und, "  # codespell:ignore
    "kundenservice, zentrale, vertrieb, geschäftsführer, geschäftsführerin, leiter, leiterin, abteilung, "
    "nummer, grüße, grüßen, freundlichen, mit, straße, str, hallo, sehr, geehrte, geehrter, mfg, fragen, "
    "llame, llamar, llámenos, escriba, escríbenos, ventas, soporte, "
    "atención, cliente, clientes, hola, "  # codespell:ignore
    "estimado, estimada, gerente, directora, calle, avenida, saludos, "  # codespell:ignore
    "gracias, nuestro, nuestra, "
    "appelez, écrivez, contactez, bonjour, cordialement, merci, ventes, accueil, directeur, directrice, rue, "
    "notre, votre, nos, vos, звоните, пишите, позвоните, здравствуйте, отдел, менеджер, директор, поддержка, "
    "справки, улица, уважением, офис, للتواصل, اتصل, اتصلوا, معنا, بنا, الرقم, رقم, على"
)
# Parts of names that are written small.
_SMALL = (
    "de, del, la, las, los, da, das, do, dos, di, van, von, der, den, ter, zu, y, e, al, el, bin, ibn, le"
)
_AFTER_A_COMMA = "jr, sr, phd, ph.d, md, mba, ltd, inc, llc, gmbh, esq, ii, iii"  # and no first name


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.casefold().split(", "))


_KINDS = {label: kind for kind, listed in _LABELS.items() for label in _words(listed)}
_PARTICLES = _words(_SMALL)
_SUFFIXES = _words(_AFTER_A_COMMA)
_NOT_IN_NAMES = _words(_NO_NAMES) | ({label for label in _KINDS if len(label) > 1} - _PARTICLES)


def _any_of(*kinds: str) -> str:
    return "|".join(re.escape(label) for label, kind in _KINDS.items() if kind in kinds)


_INVISIBLE = re.compile("[\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_SPACE = re.compile("[\xa0\u2007\u202f\u3000]")
_DIGIT = re.compile(r"\d")
_LINE_END = re.compile(r"\r\n?|\n")

# Lengths are bounded, so that a megabyte without a space does not take for ever.
_EMAIL = re.compile(
    r"(?<![\w@])[\w+&!#$^~][\w.+'&!#$^~-]{0,79}@[^\W_](?:[\w-]{0,61}[^\W_])?(?:\.[^\W_](?:[\w-]{0,61}[^\W_])?){1,8}"
)
_LINKED = re.compile(
    r"<a\s[^>]{0,200}?mailto:([^\"'>?\s]{1,254})[^>]{0,500}>([^<]{1,200})</a>", re.IGNORECASE
)
_LINKED_IN_MARKDOWN = re.compile(r"\[([^\]]{1,200})\]\(mailto:([^)?\s]{1,254})[^)]{0,200}\)", re.IGNORECASE)
_WHATSAPP_LINK = re.compile(
    r"(?:https?://)?(?:wa\.me/|api\.whatsapp\.com/send/?\?phone=)\+?(\d{8,15})\S{0,500}"
)
_LINK = re.compile(r"https?://\S+|\bwww\.\S+")
# The matcher knows how people dial abroad from one country; pasted text comes from any.
_ABROAD = re.compile(r"(?<![\d+])00(?=[1-9][\d ().-]{7,})")
_MONEY = r"(?:[€$£¥₽₹]|\b(?:EUR|USD|GBP|CHF)\b)"
_NO_NUMBER = re.compile(
    r"(?<![\d.])(?:19|20)\d\d[-./]\d{1,2}[-./]\d{1,2}(?:[T ]\d\d?:\d\d(?::\d\d)?)?(?!\d)"
    r"|(?<![\d.])\d{1,2}[-./]\d{1,2}[-./](?:19|20)\d\d(?!\d)"
    r"|\b[A-Z]{2}\d\d(?: ?[A-Z\d]{4}){2,7}(?: ?[A-Z\d]{1,3})?\b"  # IBAN
    r"|\b\d{4}([ -])\d{4}\1\d{4}\1\d{4}\b"  # payment cards
    rf"|{_MONEY}\s?\d[\d.,' ]{{0,20}}|\b\d[\d.,' ]{{0,20}}\s?{_MONEY}"
    r"|\b(?i:order|invoice|ticket|tracking|customer|account|vat|bestell\w*|rechnung\w*|kunden\w*|konto\w*|"
    r"steuer\w*|ust\w*|pedido|factura|cuenta|nif|cif|commande|facture|client|siret|siren|ordine|fattura|"
    r"заказ\w*|счет|счёт|инн)\b[ .:#]{0,3}(?i:no|nr|number|nummer|id|num|número|numéro|n°|№)?[ .:#]{0,3}"
    r"\d[\d/ -]{3,30}"
)

# What may be meant as one: text on a side of an @ (not @ada alone), or as many digits as a number has.
_SIGN = r"[^\s@,;|<>()\[\]]"
_ATTEMPTED_EMAIL = re.compile(
    rf"{_SIGN}{{1,80}}@[^\s,;|<>()\[\]]{{1,160}}"
    rf"|{_SIGN}{{0,80}} ?@ ?{_SIGN}{{1,160}}\.{_SIGN}{{2,80}}|{_SIGN}{{1,80}}@"
)
_ATTEMPTED_NUMBER = re.compile(r"(?<![\w.,/-])\(?\+?\d(?:[ ().\u2010-\u2015/-]{0,2}\d){5,16}(?!\w)")
_LABEL_LINE = re.compile(
    r"\s*(?:[-*•]\s*)?(?:item\d\.)?([^\W\d_][\w .-]{0,30}?)(?:;[^:]{0,100})?\s*[:=\uff1a]\s*(\S.*)"
)
_LABEL_BEFORE = re.compile(
    rf"(?:^|(?<=[\s,;|/(>\u2013\u2014-]))(?:{_any_of('email', 'phone')})\.?(?:\s*\([^)]{{0,20}}\))?"
    r"[\s.:\uff1a=]*\Z",
    re.IGNORECASE,
)
_FAX_BEFORE = re.compile(rf"(?<!/)\b(?:{_any_of('fax')})\b[\s.:\uff1a№]*\Z", re.IGNORECASE)
_CONNECTOR_BEFORE = re.compile(r"\s(?:at|on|under|unter|al|en|au|по)\s*\Z", re.IGNORECASE)  # codespell:ignore
_EDGES = " \t,;|/\u2013\u2014-:\uff1a=()[]<>*•·\"'“”„«»\u2039\u203a→_#"
_FIELD_ENDS = re.compile(
    r"[\t,;|•·()\[\]<>:\uff1a/*→=]+|\s[\u2013\u2014-]+\s|\s{2,}|(?<=[^\W\d_]{3})[.!?]\s|\s(?:and|und|et|и|&)\s"
)
_QUOTED = re.compile(r"[\"“„«']([^\"“”„«»]{1,100})[\"”“»']\s*\Z")
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['\u2019.\u0300-\u036f\u064b-\u0652\u200c\u200d-])*")
_EAST_ASIAN = re.compile("[\u3040-\u9fff\uac00-\ud7af]")
_LONGEST_EAST_ASIAN = 4  # characters of a whole name
_SAME_PERSON = re.compile(r"\s*(?:[/|&(]|(?:or|oder|ou|o|или)\b)", re.IGNORECASE)  # codespell:ignore


@dataclass(frozen=True, slots=True)
class Found:
    """Somebody found in text; what was not found is empty, several of a kind stand apart by `; `."""

    line: int
    name: str = ""
    email: str = ""
    """As found: whether it is a good address is judged later."""
    phone: str = ""
    """In E.164, with its extension when it has one."""
    is_attempt: bool = False
    """Nobody was found: the address or the number is what somebody may have meant as one, as it stands."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """An address or a number, and where it stands in its line."""

    start: int
    end: int
    text: str
    is_email: bool


@dataclass(slots=True)
class _Person:
    """Somebody being put together."""

    line: int
    name: str = ""
    first: str = ""
    last: str = ""
    emails: list[str] = field(default_factory=list)
    phones: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    is_card: bool = False
    """Within a vCard."""

    def found(self) -> Iterator[Found]:
        if self.emails or self.phones:
            name = self.name or " ".join(filter(None, (self.first, self.last)))
            yield Found(self.line, name, _BETWEEN.join(self.emails), _BETWEEN.join(self.phones))


@dataclass(frozen=True, slots=True)
class _Said:
    """What a line with a label says of a person."""

    kind: str
    label: str
    values: list[str]


def read(file: io.BufferedReader, name: str, options: ReadOptions) -> Reading:
    """Read the people found in a text file; a row's number is its line's, or the next where that is taken.

    Raises:
        InputError: Nobody is in it, or it is no text; the text says what to do.
    """
    return read_people(read_text(file, name, options.encoding), name, options.region)


def read_people(text: Text, name: str, region: str | None) -> Reading:
    """Read the people found in text, and what was likely meant as an address or a number, to be refused.

    Raises:
        InputError: Nobody is in it; the text says what to do.
    """
    found = find_people(_lines(text.blocks), region, attempts=True)
    first = list(islice(found, 1))
    while first and first[-1].is_attempt and len(first) < _ROWS_AT_ONCE and (one := next(found, None)):
        first.append(one)
    if all(one.is_attempt for one in first):
        meant = f"; what comes nearest is in line {first[0].line:,}" if first else ""
        hint = "" if region else "; numbers without a country code need --region"
        raise InputError(f"{name} holds no e-mail address and no phone number{meant}{hint}")
    layout = Layout("free text", HEADER, 0, text.encoding, text.notes)
    return Reading(layout, _chunks(chain(first, found)))


def parse_text(text: str, region: str | None) -> list[Found]:
    """Return the people found in pasted text."""
    return list(find_people(_LINE_END.split(text), region))


def find_people(lines: Iterable[str], region: str | None, *, attempts: bool = False) -> Iterator[Found]:
    """Find addresses and numbers, with the names beside them: rather none than a wrong one.

    Lines are looked at one by one, save lines with labels (`Name: …`, `Tel: …`, a vCard's) that follow each
    other: together they are one person. With `attempts` also what was likely meant as an address or a number.
    """
    person: _Person | None = None
    for number, given in enumerate(lines, start=1):
        line = _SPACE.sub(" ", _INVISIBLE.sub("", given))
        said = _said(line, region, is_card=person is not None and person.is_card)
        if person and (said is None or _is_about_another(said, person)):
            yield from person.found()
            person = None
        if said is None:
            for piece in _pieces(line):
                yield from _people_of(piece, number, region)
                if attempts:
                    yield from _attempts_in(piece, number, region)
        else:
            person = person or _Person(number)
            _take(said, person)
    if person:
        yield from person.found()


def _said(line: str, region: str | None, *, is_card: bool) -> _Said | None:
    """Read a line with a label; None when it is to be looked at like any other."""
    matched = _LABEL_LINE.fullmatch(line.rstrip()) if len(line) <= _LONGEST_PIECE else None
    if matched is None:
        return None
    label, value = matched[1].casefold().rstrip(" ."), matched[2]
    if label in {"begin", "end"} and value.casefold() == "vcard":
        return _Said(label, label, [])
    if is_card and label == "n":
        return _Said("parts", label, [part.strip() for part in value.split(";")])
    kind = _KINDS.get(label, "other" if is_card else "")
    marks = _marks(value, region)
    if kind in {"email", "phone"}:
        alike = marks and all(mark.is_email == (kind == "email") for mark in marks)
        return _Said(kind, label, [mark.text for mark in marks]) if alike and _is_bare(value, marks) else None
    if kind in {"name", "first", "last"}:
        named = "" if marks else _display_name(value)
        return _Said(kind, label, [named]) if named else None
    return _Said(kind, label, []) if kind == "fax" or (kind == "other" and not marks) else None


def _is_bare(value: str, marks: Sequence[_Mark]) -> bool:
    """Say whether a label's value has nothing of its own beside addresses and numbers, such as a name."""
    beside = [gap for gap, _ in _gaps(value, marks)] + [value[marks[-1].end :]]
    return not any(_WORD.search(_LABEL_BEFORE.sub("", gap).strip(_EDGES)) for gap in beside)


def _is_about_another(said: _Said, person: _Person) -> bool:
    match said.kind:
        case "begin":
            return True
        case "name":
            return bool(person.name or person.first or person.last) and not person.is_card
        case "first" | "last":
            return bool(getattr(person, said.kind))
        case "email" | "phone" if said.label in person.labels:
            # Two numbers of somebody with a name are hers or his; without one they are a list.
            return not (person.name or person.first or person.last or person.is_card)
    return False


def _take(said: _Said, person: _Person) -> None:
    person.labels.add(said.label)
    match said.kind:
        case "begin" | "end":
            person.is_card = said.kind == "begin"
        case "name":
            person.name = said.values[0]
        case "first":
            person.first = said.values[0]
        case "last":
            person.last = said.values[0]
        case "parts":
            person.last, person.first = [*said.values, ""][:2]
        case "email":
            person.emails += said.values
        case "phone":
            person.phones += said.values


def _pieces(line: str) -> Iterator[str]:
    """Cut a long line where recipients end, else at a space."""
    while len(line) > _LONGEST_PIECE:
        ends = (line.rfind(sign, 0, _LONGEST_PIECE) for sign in (";", ">", ",", " "))
        end = next((end for end in ends if end > 0), _LONGEST_PIECE - 1) + 1
        yield line[:end]
        line = line[end:]
    yield line


def _people_of(piece: str, number: int, region: str | None) -> Iterator[Found]:
    """Find the people on a line."""
    if "mailto:" in piece.casefold():
        piece = _LINKED_IN_MARKDOWN.sub(r"\1 <\2>", _LINKED.sub(r"\2 <\1>", piece))
    piece = _WHATSAPP_LINK.sub(r" +\1 ", piece)
    marks = _marks(piece, region)
    if not marks:
        return
    names = _names(piece, marks)
    emails = sum(mark.is_email for mark in marks)
    phones = len(marks) - emails
    named = [place for place, name in enumerate(names) if name]
    alone = emails <= 1 and len(named) <= 1 and (emails or named or phones == 1)
    if alone and (not named or named == [0] or phones <= 1):
        person = _Person(number, next(filter(None, names), ""))
        for mark in marks:
            (person.emails if mark.is_email else person.phones).append(mark.text)
        yield from person.found()
        return
    person = _Person(number)
    for (gap, mark), name in zip(_gaps(piece, marks), names, strict=True):
        if name or not _belongs(gap, mark, person, in_pairs=emails == phones):
            yield from person.found()
            person = _Person(number, name)
        (person.emails if mark.is_email else person.phones).append(mark.text)
    yield from person.found()


def _attempts_in(piece: str, number: int, region: str | None) -> Iterator[Found]:
    """Find what somebody may have meant as an address; where a line has nobody, also as a number."""
    marks = _marks(piece, region)
    rest = _LINK.sub(_hidden, _WHATSAPP_LINK.sub(_hidden, _EMAIL.sub(_hidden, piece)))
    for meant in _ATTEMPTED_EMAIL.finditer(rest):
        yield Found(number, email=meant[0].strip(_EDGES), is_attempt=True)
        marks.append(_Mark(meant.start(), meant.end(), meant[0], is_email=True))
    if not marks and _digits(rest) >= _FEWEST_DIGITS:
        for meant in _ATTEMPTED_NUMBER.finditer(_NO_NUMBER.sub(_hidden, rest)):
            if not _FAX_BEFORE.search(rest, max(0, meant.start() - 20), meant.start()):
                yield Found(number, phone=meant[0], is_attempt=True)


def _belongs(gap: str, mark: _Mark, person: _Person, *, in_pairs: bool) -> bool:
    """Say whether an address or a number is the person's whose other one stands before it."""
    if mark.is_email:
        may, has_other = not person.emails, bool(person.phones)
    elif person.phones:
        return bool(_SAME_PERSON.match(gap) or _LABEL_BEFORE.search(gap))
    else:
        may, has_other = True, bool(person.emails)
    return may and has_other and (in_pairs or not re.search("[,;]", gap))


def _marks(text: str, region: str | None) -> list[_Mark]:
    """Find addresses and numbers, in the order of the text."""
    found: list[_Mark] = []
    bare = text
    if "://" in text or "www." in text:
        bare = _LINK.sub(_hidden, bare)
    if "@" in bare:
        for match in _EMAIL.finditer(bare):
            # `ada@example.org <ada@example.org>` is one.
            if not found or found[-1].text.casefold() != match[0].casefold():
                found.append(_Mark(match.start(), match.end(), match[0], is_email=True))
        bare = _EMAIL.sub(_hidden, bare)
    if _digits(bare) >= _FEWEST_DIGITS:
        bare = _NO_NUMBER.sub(_hidden, _ABROAD.sub(" +", bare))
        matches = PhoneNumberMatcher(bare, region, Leniency.VALID, _MOST_TRIES)
        found += [
            _Mark(match.start, match.end, _number(match), is_email=False)
            for match in matches
            if not _FAX_BEFORE.search(bare, max(0, match.start - 20), match.start)
        ]
    return sorted(found, key=lambda mark: mark.start)


def _digits(text: str) -> int:
    """Count digits, as far as it matters."""
    return sum(1 for _ in islice(_DIGIT.finditer(text), _FEWEST_DIGITS))


def _hidden(match: re.Match[str]) -> str:
    return "|" * len(match[0])  # what no number has, so none goes on across it


def _number(match: PhoneNumberMatch) -> str:
    number = phonenumbers.format_number(match.number, PhoneNumberFormat.E164)
    return f"{number} ext. {match.number.extension}" if match.number.extension else number


def _gaps(text: str, marks: Sequence[_Mark]) -> Iterator[tuple[str, _Mark]]:
    """Yield each mark with the text between it and the one before it."""
    end = 0
    for mark in marks:
        yield text[end : mark.start], mark
        end = mark.end


def _names(text: str, marks: Sequence[_Mark]) -> list[str]:
    """Return the name that stands beside each mark, or an empty text."""
    emails = [mark.text for mark in marks if mark.is_email]
    gaps = list(_gaps(text, marks))
    names = [
        _name_before(gap, mark.text if mark.is_email else emails[0] if len(emails) == 1 else "")
        for gap, mark in gaps
    ]
    if names[0] or any(gap.rstrip().endswith("<") for gap, _ in gaps):
        return names
    # `ada@example.org (Ada Lovelace), bob@example.org (Bob Roe)`: names stand behind.
    if behind := _name_behind(text[marks[-1].end :], marks[-1], is_first=not gaps[0][0].strip(_EDGES)):
        return [*names[1:], behind]
    return names


def _name_before(gap: str, email: str) -> str:
    """Return the name directly before an address or a number."""
    bare = gap.rstrip()
    if bare.endswith("<"):
        return _before_angle(bare[:-1].rstrip())
    while True:
        bare = bare.strip(_EDGES)
        shorter = _CONNECTOR_BEFORE.sub("", _LABEL_BEFORE.sub("", bare))
        if shorter == bare:
            break
        bare = shorter
    fields = [part.strip(_EDGES) for part in _FIELD_ENDS.split(bare)]
    fields = [part for part in fields if part]
    if not fields:
        return ""
    names = [part for part in fields if _is_name(part)]
    like = [name for name in names if _is_like(name, email)]
    if like:
        return like[-1]
    if names == fields[-1:]:
        by_itself = gap.rstrip(" ") != gap.rstrip() or bare != gap.strip() or len(fields) == 1
        return names[0] if by_itself and _may_touch(names[0], gap) else ""
    return "" if names else _name_at_the_end(fields[-1], email)


def _may_touch(name: str, gap: str) -> bool:
    """Say whether a name in a script without capitals is set apart: else it may be any words."""
    return name[0].isupper() or bool(_EAST_ASIAN.match(name)) or not gap.rstrip().endswith(name)


def _before_angle(text: str) -> str:
    """Return the display name before `<ada@example.org>`: whoever wrote it said that it is one."""
    if quoted := _QUOTED.search(text):
        return _display_name(quoted[1])
    after_comma = text.lstrip("> ").startswith(",")  # which stood between two recipients, not in a name
    part = re.split(r"[;>\t|•:]|\s[\u2013\u2014-]\s", text)[-1].strip(_EDGES)
    before, comma, after = part.rpartition(",")
    if comma and (after_comma or not (_is_name(before) and _is_name(after.strip()))):
        part = after.strip(_EDGES)
    words = part.split()
    if any(map(_is_known, words)) or len(words) > _MOST_WITH_PARTICLES:
        return _last_words_of_name(part)
    return _display_name(part)


def _display_name(text: str) -> str:
    """Return a name as it is called: `Doe, Jane` is Jane Doe."""
    named = text.strip(" \t,;:\"'")
    if "@" in named or not _WORD.search(named) or len(named.split()) > _MOST_WITH_PARTICLES:
        return ""
    last, comma, first = (part.strip() for part in named.partition(","))
    if comma and _is_name(last) and _is_name(first) and _plain(first) not in _SUFFIXES:
        return f"{first} {last}"
    return named


def _name_at_the_end(field_text: str, email: str) -> str:
    """Return the name that ends a sentence: of one word only when the address is like it."""
    name = _last_words_of_name(field_text)
    return name if " " in name or _is_like(name, email) else ""


def _last_words_of_name(text: str) -> str:
    words = text.split()
    start = len(words)
    while start and (
        _is_capitalised(words[start - 1]) or (start < len(words) and words[start - 1] in _PARTICLES)
    ):
        start -= 1
    while start < len(words) and words[start] in _PARTICLES:
        start += 1
    name = " ".join(words[start:])
    return name if _is_name(name) and name[0].isupper() else ""


def _name_behind(text: str, mark: _Mark, *, is_first: bool) -> str:
    """Return the name directly behind an address or a number that begins its line."""
    fields = [part.strip(_EDGES) for part in _FIELD_ENDS.split(text.strip(_EDGES))]
    name = fields[0]
    if not _is_name(name) or not _may_touch(name, name if text[:1] == " " else ""):
        return ""
    if _is_like(name, mark.text) or (text.strip().startswith("(") and " " in name):
        return name
    return name if is_first and len(fields) == 1 and (" " in name or not mark.is_email) else ""


def _is_name(text: str) -> bool:
    """Say whether a text is one to four capitalised words, none of which is known to be no name."""
    words = text.split()
    proper = [word for word in words if word not in _PARTICLES]
    if not 1 <= len(proper) <= _MOST_WORDS or len(words) > _MOST_WITH_PARTICLES or words[0] in _PARTICLES:
        return False
    if not all(map(_is_capitalised, proper)):
        return False
    if _EAST_ASIAN.search(text) and len(text.replace(" ", "")) > _LONGEST_EAST_ASIAN:
        return False
    # One letter is none, and neither is HR.
    return len(proper) > 1 or len(text) > (2 if not text.isupper() else 3) or bool(_EAST_ASIAN.search(text))


def _is_capitalised(word: str) -> bool:
    begins_small = word[0].islower()  # scripts without capitals pass
    return bool(_WORD.fullmatch(word)) and not begins_small and not _is_known(word)


def _is_known(word: str) -> bool:
    """Say whether it is a word, or made of words, that are no names: Contactez-nous."""
    return any(_plain(part) in _NOT_IN_NAMES for part in (word, *word.split("-")))


def _plain(word: str) -> str:
    return word.casefold().strip(".,'\u2019")


def _is_like(name: str, email: str) -> bool:
    """Say whether a word of the name stands in the address."""
    local = _letters(email.partition("@")[0])
    words = [_letters(word) for word in re.split(r"[\s-]", name)]
    return any(len(word) >= _SHORTEST_LIKENESS and word in local for word in words)


def _letters(text: str) -> str:
    umlauts = text.casefold().replace("ä", "ae").replace("ö", "oe").replace("ü", "ue")  # codespell:ignore
    return "".join(filter(str.isalpha, unicodedata.normalize("NFKD", umlauts)))


def _chunks(people: Iterator[Found]) -> Iterator[pl.DataFrame]:
    numbered = _numbered(people)
    while part := list(islice(numbered, _ROWS_AT_ONCE)):
        yield rows_frame(
            ((number, [found.name, found.email, found.phone], None) for number, found in part), len(HEADER)
        )


def _numbered(people: Iterator[Found]) -> Iterator[tuple[int, Found]]:
    """Number people by their lines; a row's number is its own, so of several on a line the rest count on."""
    last = 0
    for found in people:
        last = max(found.line, last + 1)
        yield last, found


def _lines(blocks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for block in blocks:
        data = rest + block
        # A line end at the very end may be half of one.
        end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
        if not end and len(data) > _LONGEST_LINE:
            end = data.rfind(b" ") + 1 or len(data)
        yield from _decoded_lines(data[:end])
        rest = data[end:]
    yield from _decoded_lines(rest)


def _decoded_lines(data: bytes) -> list[str]:
    if not data:
        return []
    lines = _LINE_END.split(legible(data.decode(errors="surrogateescape")))
    return lines if lines[-1] else lines[:-1]
