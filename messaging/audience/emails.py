"""E-mail addresses: ordinary ones by expression, the others by email-validator."""

import re
import unicodedata
from functools import lru_cache

import email_validator
import polars as pl

from messaging.audience.reasons import Reason

_MAX_BYTES = 254  # RFC 5321, path without its angle brackets
_MAX_LOCAL_BYTES = 64

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

_SCHEMA = {"address": pl.String, "email": pl.String, "email_key": pl.String, "email_reason": pl.String}


def judge_emails(addresses: pl.Series) -> pl.DataFrame:
    """Return a row per distinct address: `email` and `email_key`, or `email_reason`.

    The addresses are stripped already.
    """
    distinct = pl.DataFrame({"address": addresses.drop_nulls().unique()})
    ordinary = _is_ordinary(pl.col("address"))
    local = pl.col("address").str.extract(r"\A([^@]*)@")
    domain = pl.col("address").str.extract(r"(@.*)\z").str.to_lowercase()
    fast = distinct.filter(ordinary).select(
        "address",
        email=local + domain,
        email_key=pl.col("address").str.to_lowercase(),
        email_reason=pl.lit(None, pl.String),
    )
    rest = distinct.filter(~ordinary)["address"].to_list()
    slow = pl.DataFrame([(address, *judge_email(address)) for address in rest], _SCHEMA, orient="row")
    return pl.concat([fast, slow])


def judge_email(address: str) -> tuple[str | None, str | None, Reason | None]:
    """Judge one stripped address: for sending, for comparing, or the reason against it.

    For sending the local part stays as given (NFC), the domain becomes lower-case ASCII (IDNA 2008); for
    comparing the local part is lower-case too. A local part outside ASCII is accepted: the relay must
    offer SMTPUTF8.
    """
    address = unicodedata.normalize("NFC", address)
    reason = _obvious_flaw(address)
    if reason:
        return None, None, reason
    local, _, domain = address.partition("@")
    judged = _judge_domain(domain)
    if isinstance(judged, Reason):
        return None, None, judged
    if not _is_local_part(local):
        return None, None, Reason.EMAIL_SYNTAX
    if any(len(f"{local}@{form}".encode()) > _MAX_BYTES for form in judged):
        return None, None, Reason.EMAIL_TOO_LONG
    ascii_domain, _ = judged
    return f"{local}@{ascii_domain}", f"{local.lower()}@{ascii_domain}", None


def _is_ordinary(address: pl.Expr) -> pl.Expr:
    return (
        address.str.contains(_ORDINARY)
        & (address.str.len_bytes() <= _MAX_BYTES)
        & (address.str.find("@", literal=True) <= _MAX_LOCAL_BYTES)
        # Punycode must decode, and other labels with "--" in that place are reserved.
        & ~address.str.contains("--", literal=True)
        & ~address.str.contains(_RESERVED_DOMAIN)
    )


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
