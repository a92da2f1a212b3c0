"""The slow, obvious reading of rows, one after the other: what judging whole columns is held against."""

import re
import unicodedata
from functools import cache
from urllib.parse import unquote

import email_validator
import polars as pl

from messaging.audience.columns import Columns
from messaging.audience.judging import Basis
from messaging.audience.phones import judge_phone
from messaging.audience.values import (
    judge_consents,
    judge_countries,
    judge_languages,
    judge_opt_outs,
    judge_statuses,
    judge_time_zones,
)
from messaging.audience.words import words_of

JOINERS = "\u200c\u200d"
AROUND = ".,;:|/\\\"'`´<>()[]{}“”„‟«»‹›‘’‚‛。，；：、"  # noqa: RUF001 - as people type them


def is_space(character: str) -> bool:
    return unicodedata.category(character) in {"Zs", "Zl", "Zp"} or character in "\t\n\v\f\r\x85"


def is_hidden(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cf"} and not is_space(character)


def needs_joiners(character: str) -> bool:
    """Tell whether a joiner after the character changes what one sees: emoji, Arabic or Indic letters."""
    name = unicodedata.name(character, "")
    simple = ("LATIN", "GREEK", "CYRILLIC", "HEBREW", "CJK", "HANGUL")
    return not (
        name.startswith(simple) or is_space(character) or unicodedata.category(character)[0] in {"N", "P"}
    )


def strip(text: str) -> str:
    while text and (is_space(text[0]) or is_hidden(text[0])):
        text = text[1:]
    while text and (is_space(text[-1]) or is_hidden(text[-1])):
        text = text[:-1]
    return text


def clean(text: str) -> str:
    visible = ""
    for c in text:
        if is_space(c):
            visible += " "
        elif c in JOINERS:
            visible += c if visible and needs_joiners(visible[-1]) else ""
        elif not is_hidden(c):
            visible += c
    while "  " in visible:
        visible = visible.replace("  ", " ")
    return strip(unicodedata.normalize("NFC", visible))


def judge_address(address: str) -> tuple[str, str, str]:
    """Judge one address as it is written: for sending, for comparing, the reason against it."""
    if address.count("@") != 1:
        return "", "", "e-mail: more than one @" if "@" in address else "e-mail: no @"
    local, domain = address.split("@")
    if len(local) > 64 or len(address.encode()) > 254:
        return "", "", "e-mail: too long"
    try:
        found = email_validator.validate_email(address, check_deliverability=False, strict=True)
    except email_validator.EmailNotValidError:
        if domain.lower().split(".")[-1] in {"arpa", "invalid", "local", "localhost", "onion", "test"}:
            return "", "", "e-mail: reserved domain"
        try:
            email_validator.validate_email("x@" + domain, check_deliverability=False, strict=True)
        except email_validator.EmailNotValidError:
            return "", "", "e-mail: bad domain"
        return "", "", "e-mail: syntax"
    return f"{local}@{found.ascii_domain}", f"{local.lower()}@{found.ascii_domain}", ""


def judge_email(cell: str) -> tuple[str, str, str, bool, bool]:
    """Judge an e-mail cell: also whether it was mended, and whether it holds several addresses."""
    cell = unicodedata.normalize("NFC", cell)
    email, key, reason = judge_address(cell)
    if email and cell[0] != "'":
        return email, key, reason, False, False
    found = addresses_in(cell)
    verdicts = [judge_address(address) for address in found]
    for address, (email, key, _) in zip(found, verdicts, strict=True):
        if email:
            alone = address in re.split(r"[\s;,|/]", cell)
            return email, key, "", len(found) == 1 or not alone, len(found) > 1
    return "", "", verdicts[0][2], False, False


def addresses_in(cell: str) -> list[str]:
    """Return each address of the cell once, or all of it where words may belong to it."""
    text = "".join(c for c in cell if not is_hidden(c)).replace("\uff20", "@")
    text = re.sub(r"\s*@\s*", "@", text)
    if bare(text, mailto=False).lower().startswith("mailto:"):
        text = text.split("?")[0]
    found = []
    name_before = False
    for piece in re.split(r"[;,|\r\n]|\s:::\s", text):
        named = re.fullmatch(rf"[^<]*<([^<>]*@[^<>]*)>[\s{re.escape(AROUND)}]*", piece)
        words = re.split(r"[\s/]+", bare(piece, mailto=False))
        if named:
            found.append(named[1])
            name_before = False
        elif words == [""]:
            continue
        elif "@" not in piece:
            name_before = True
        elif name_before or not all("@" in word for word in words):
            return [bare(text)]
        else:
            found += words
    if name_before or not found:
        return [bare(text)]
    once = {}
    for address in map(bare, found):
        once.setdefault(address.lower(), address)
    return list(once.values())


def bare(text: str, *, mailto: bool = True) -> str:
    while text and (is_space(text[0]) or text[0] in AROUND):
        text = text[1:]
    while text and (is_space(text[-1]) or text[-1] in AROUND):
        text = text[:-1]
    if mailto and text.lower().startswith("mailto:"):
        return bare(unquote(text[len("mailto:") :].split("?")[0]), mailto=False)
    return text


def meant(text: str) -> str:
    """Return nothing for words that say there is none."""
    return "" if text.lower() in words_of("value", "hints")["no_value"] else text


@cache
def value(judge, text: str) -> dict:
    return judge(pl.Series("given", [text])).row(0, named=True) if text else {}


def judge_row(cells: list[str], columns: Columns, basis: Basis) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return the reason against a row, the fields of its contact that say anything, and its attributes."""

    def text(role: str) -> str:
        place = columns.first(role)
        return "" if place is None else clean(cells[place])

    addresses = {place: meant(strip(cells[place])) for place in columns.roles.get("email", [])}
    numbers = {place: meant(clean(cells[place])) for place in columns.roles.get("phone", [])}
    country = value(judge_countries, text("country")).get("country") or ""
    emails = {place: judge_email(address) for place, address in addresses.items() if address}
    phones = {
        place: judge_phone(number, country or basis.region) for place, number in numbers.items() if number
    }
    email, key, reason, _, _ = first_good(emails) or ("", "", "", False, False)
    phone = first_good(phones)
    consent = value(judge_consents, text("consent"))
    wants_none = consent.get("consent") is False or any(
        value(judge_opt_outs, clean(cells[place])).get("opted_out")
        for place in columns.roles.get("opt_out", [])
    )
    status = "unsubscribed" if wants_none else value(judge_statuses, text("status")).get("status")
    consented = bool(consent.get("consent") or basis.consent) and not wants_none
    if not emails:
        reason = (phone.phone_reason or "") if phone else "no address"
    if not reason and basis.require_consent and not consented and status != "unsubscribed":
        reason = "no consent"

    fields = {"email_key": key, "email": email, "name": meant(text("name"))}
    fields["name"] = fields["name"] or f"{meant(text('first_name'))} {meant(text('last_name'))}".strip()
    if phone and phone.phone:
        fields |= {"phone": phone.phone, "phone_type": phone.phone_type, "phone_region": phone.phone_region}
        fields["time_zone"] = phone.phone_time_zone
        number = next(numbers[place] for place, one in phones.items() if one == phone)
        if columns.first("country") is None and re.match(r"[^\d+]*(\+|00)", number.replace("\uff0b", "+")):
            country = phone.phone_region
    time_zone = value(judge_time_zones, text("time_zone")).get("time_zone")
    fields |= {"country": country, "time_zone": time_zone or fields.get("time_zone")}
    fields["language"] = value(judge_languages, text("language")).get("language")
    fields["status"] = status
    place = columns.first("consent")
    column = "" if place is None else f"column {columns.header[place]!r} of {basis.file_name}"
    fields["consent_source"] = (basis.consent or column) if consented else ""
    if consent.get("consent") and consented:
        fields |= {"consent_text": consent["consent_text"], "consent_at": consent["consent_at"]}

    attributes = {place: clean(cells[place]) for place in columns.attributes}
    attributes |= {
        place: clean(addresses[place])
        for place, (_, one, _, _, several) in emails.items()
        if one != key or not one or several or re.search(r"\w[^<]*<[^<>]*@", addresses[place])
    }
    attributes |= {
        place: numbers[place]
        for place, one in phones.items()
        if not one.phone or one.phone != phone.phone or one.phone_has_more
    }
    said = {name: field for name, field in fields.items() if field}
    return str(reason), said, {columns.header[place]: cell for place, cell in attributes.items() if cell}


def first_good(verdicts: dict):
    """Return the first verdict with an address, else the first of any."""
    return next((one for one in verdicts.values() if one[0]), next(iter(verdicts.values()), None))
