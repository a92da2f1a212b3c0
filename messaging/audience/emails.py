"""E-mail addresses: ordinary ones by expression, the others mended and given to email-validator."""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

import email_validator
import polars as pl

from messaging.audience.cleaning import HIDDEN
from messaging.audience.suspicions import is_role, judge_domains, mixes_scripts
from schemas.reasons import Reason

_MAX_BYTES = 254  # RFC 5321, path without its angle brackets
_MAX_LOCAL_BYTES = 64
_MAX_SEVERAL = 20  # addresses that are looked at in one cell
_MAX_CELL = _MAX_SEVERAL * _MAX_BYTES  # longer cells are judged as one address

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LAST_LABEL = r"(?:[A-Za-z0-9][A-Za-z0-9-]{0,61})?[A-Za-z]"
# Narrower than email-validator on purpose: what this accepts, it accepts, and a test compares the two.
_ORDINARY = rf"\A{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+{_LAST_LABEL}\z"
# example.com and its like are not among them: RFC 6761 wants them treated as any other name.
_RESERVED = "|".join(map(re.escape, email_validator.SPECIAL_USE_DOMAIN_NAMES))
_RESERVED_DOMAIN = rf"(?i)[@.](?:{_RESERVED})\z"
_RESERVED_END = re.compile(rf"(?i)[@.](?:{_RESERVED})\Z")  # Python's spelling of the same
_ATOMS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_TEXT_SIGN = "'"  # a spreadsheet's way to say that a cell is text; no address begins so

# What is pasted along: controls that are no whitespace, and what nobody sees.
_PASTED = re.compile(rf"[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u200c\u200d{HIDDEN}]+")
_EDGES = " \t\n\v\f\r\x85\xa0\u2028\u2029\u3000.,;:|/\\\"'`´<>()[]{}“”„‟«»‹›‘’‚‛。，；：、"  # noqa: RUF001 - they are meant
_MAILTO = re.compile(r"(?i)mailto:")
_IN_BRACKETS = re.compile(r"[^<]*<([^<>]*@[^<>]*)>")
_BETWEEN_PEOPLE = re.compile(r"[;,|\r\n]+|\s:::\s")  # Google Contacts puts three colons
_BETWEEN_ADDRESSES = re.compile(r"[\s/]+")


class EmailVerdict(NamedTuple):
    """What is said of one cell: an address, or the reason against it."""

    email: str | None
    """For sending: the local part as given (NFC), the domain in lower-case ASCII (IDNA 2008)."""
    email_key: str | None
    """For comparing: the local part in lower case too."""
    email_reason: Reason | None
    email_mended: bool = False
    email_several: bool = False


_SCHEMA = {
    "given": pl.String,
    "email": pl.String,
    "email_key": pl.String,
    "email_reason": pl.String,
    "email_mended": pl.Boolean,
    "email_several": pl.Boolean,
}
_FALSE = pl.lit(value=False)


def judge_emails(given: pl.Series) -> pl.DataFrame:
    """Return a row per distinct cell `given` (stripped): its `EmailVerdict` and what is suspicious.

    That is `email_role`, `email_disposable` and `email_mixed_scripts`, and `email_typo`: null or a hint such
    as "gmial.com → gmail.com".
    """
    cells = pl.DataFrame({"given": given.drop_nulls().unique()})
    ordinary = cells.select(_is_ordinary(pl.col("given"))).to_series()
    fast = _parts(cells.filter(ordinary), "given").with_columns(pl.col("domain").str.to_lowercase())
    fast = fast.select(
        "given",
        email=pl.concat_str("local", pl.lit("@"), "domain"),
        email_key=pl.col("given").str.to_lowercase(),
        email_reason=pl.lit(None, pl.String),
        email_mended=_FALSE,
        email_several=_FALSE,
        local="local",
        domain="domain",
        email_mixed_scripts=_FALSE,
    )
    careful = [(cell, *judge_email(cell)) for cell in cells.filter(~ordinary)["given"]]
    slow = _parts(pl.DataFrame(careful, _SCHEMA, orient="row"), "email")
    written = pl.Series([domain and _as_written(domain) for domain in slow["domain"]], dtype=pl.String)
    slow = slow.with_columns(
        email_mixed_scripts=mixes_scripts(pl.col("local"), within=".")
        | mixes_scripts(pl.lit(written), within="[^.]")
    )
    verdicts = pl.concat([fast, slow])
    return verdicts.join(judge_domains(verdicts["domain"]), on="domain", how="left").select(
        *_SCHEMA,
        pl.col("email_disposable", "email_mixed_scripts").fill_null(value=False),
        "email_typo",
        email_role=is_role(pl.col("local")).fill_null(value=False),
    )


def judge_email(cell: str) -> EmailVerdict:
    """Judge one stripped cell: as it stands, else mended; of several addresses the first good one.

    Words beside an address make it bad, a name before angle brackets apart: in "ada lovelace@example.org"
    they belong to it. A local part outside ASCII is accepted: the relay must offer SMTPUTF8.
    """
    cell = unicodedata.normalize("NFC", cell)
    verdict = _judge(cell)
    if len(cell) > _MAX_CELL or (verdict.email and not cell.startswith(_TEXT_SIGN)):
        return verdict
    addresses = _addresses(cell)
    several = len(addresses) > 1
    verdicts = [_judge(address) for address in addresses]
    for address, verdict in zip(addresses, verdicts, strict=True):
        if verdict.email:
            mended = not several or address not in re.split(r"[\s;,|/]+", cell)
            return verdict._replace(email_mended=mended, email_several=several)
    return verdicts[0]


def _addresses(cell: str) -> list[str]:
    """Return the addresses of a cell, each once and without what surrounds it, or all of it as one."""
    text = _PASTED.sub("", cell).replace("\uff20", "@")
    text = "@".join(part.strip() for part in text.split("@"))
    if _MAILTO.match(text.lstrip(_EDGES)):
        text = text.partition("?")[0]
    found: list[str] = []
    half_a_name = False  # as in: Lovelace, Ada <ada@example.org>
    for piece in _BETWEEN_PEOPLE.split(text):
        bracketed = _IN_BRACKETS.match(piece)
        words = _BETWEEN_ADDRESSES.split(piece.strip(_EDGES))
        if bracketed and not piece[bracketed.end() :].strip(_EDGES):
            found.append(bracketed[1])
            half_a_name = False
        elif all("@" in word for word in words) and not half_a_name:
            found += words
        elif "@" not in piece:
            half_a_name = half_a_name or bool(words[0])
        else:
            return [_bare(text)]
    if half_a_name or not found:
        return [_bare(text)]
    distinct: dict[str, str] = {}
    for address in map(_bare, found[:_MAX_SEVERAL]):
        distinct.setdefault(address.lower(), address)
    return list(distinct.values())


def _bare(text: str) -> str:
    """Return an address without mailto: and the signs that surround it."""
    text = text.strip(_EDGES)
    if _MAILTO.match(text):
        text = unquote(text.partition(":")[2].partition("?")[0]).strip(_EDGES)
    return text


def _judge(address: str) -> EmailVerdict:
    """Judge one address in NFC as it is written."""
    reason = _obvious_flaw(address)
    if reason:
        return EmailVerdict(None, None, reason)
    local, _, domain = address.partition("@")
    judged = _judge_domain(domain)
    if isinstance(judged, Reason):
        return EmailVerdict(None, None, judged)
    if not _is_local_part(local):
        return EmailVerdict(None, None, Reason.EMAIL_SYNTAX)
    if any(len(f"{local}@{form}".encode()) > _MAX_BYTES for form in judged):
        return EmailVerdict(None, None, Reason.EMAIL_TOO_LONG)
    ascii_domain, _ = judged
    return EmailVerdict(f"{local}@{ascii_domain}", f"{local.lower()}@{ascii_domain}", None)


def _is_ordinary(address: pl.Expr) -> pl.Expr:
    return (
        address.str.contains(_ORDINARY)
        & (address.str.len_bytes() <= _MAX_BYTES)
        & (address.str.find("@", literal=True) <= _MAX_LOCAL_BYTES)
        & ~address.str.starts_with(_TEXT_SIGN)
        # Punycode must decode, and other labels with "--" in that place are reserved.
        & ~address.str.contains("--", literal=True)
        & ~address.str.contains(_RESERVED_DOMAIN)
    )


def _parts(cells: pl.DataFrame, address: str) -> pl.DataFrame:
    parts = pl.col(address).str.splitn("@", 2).struct.rename_fields(["local", "domain"]).alias("parts")
    return cells.with_columns(parts).unnest("parts")


def _obvious_flaw(address: str) -> Reason | None:
    if "@" not in address:
        return Reason.EMAIL_NO_AT
    if address.count("@") > 1:
        return Reason.EMAIL_SEVERAL_AT
    if len(address.encode()) > _MAX_BYTES or address.index("@") > _MAX_LOCAL_BYTES:
        return Reason.EMAIL_TOO_LONG
    return None


@lru_cache(maxsize=10_000)  # a list has few domains, and those outside ASCII are slow to judge
def _judge_domain(domain: str) -> tuple[str, str] | Reason:
    """Return the domain in ASCII and as its owner writes it, or the reason against it."""
    if _RESERVED_END.search("@" + domain):
        return Reason.EMAIL_RESERVED_DOMAIN
    try:
        found = _validate("x@" + domain)
    except email_validator.EmailNotValidError:
        return Reason.EMAIL_BAD_DOMAIN
    return found.ascii_domain, found.domain


def _as_written(domain: str) -> str:
    """Return a good domain as its owner writes it."""
    judged = _judge_domain(domain)
    return domain if isinstance(judged, Reason) else judged[1]


def _is_local_part(local: str) -> bool:
    if _ATOMS.fullmatch(local):
        return True
    try:
        _validate(local + "@example.org")
    except email_validator.EmailNotValidError:
        return False
    return True


def _validate(address: str) -> email_validator.ValidatedEmail:
    return email_validator.validate_email(address, check_deliverability=False, strict=True)
