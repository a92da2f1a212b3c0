"""DKIM keys as they stand in DNS (RFC 6376, 3.6; RFC 8463).

A domain does not tell the names (selectors) of its keys, so those that providers give them are tried: a key
found says something, none found says nothing.
"""

import re
from base64 import b64decode
from binascii import Error
from collections.abc import Sequence
from typing import Final

from schemas.preflight import Line, Verdict

# What providers call their keys, by their setup guides: Google Workspace, Microsoft 365, SendGrid, Mailchimp
# and Mandrill, Postmark, Mailgun, Brevo, Fastmail, Proton, Zoho, HubSpot, Klaviyo, OpenDKIM and rspamd.
SELECTORS: Final = (
    *("google", "selector1", "selector2", "s1", "s2", "default", "mail", "dkim", "k1", "k2", "k3"),
    *("mandrill", "mte1", "mte2", "pm", "mg", "mx", "krs", "pic", "smtp", "email", "key1", "key2"),
    *("fm1", "fm2", "fm3", "protonmail", "protonmail2", "zoho", "zmail", "hs1", "hs2", "kl", "kl2"),
    *("brevo1", "brevo2", "sib", "sig1", "dkim1", "dkim2", "2024", "2025", "2026"),
)
SHORTEST: Final = 1024
"""Bits of an RSA key; shorter ones receivers must take for no key (RFC 8301, 3.2)."""
_USUAL: Final = 2048
_ED25519_BYTES: Final = 32
_TAG = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*=\s*([^;]*?)\s*(?:;|$)")


def judge_dkim(domain: str, found: dict[str, Sequence[str]], silent: int) -> Line:
    """Judge the keys found at these selectors; `silent` is how many of them gave no answer."""
    keys = {
        selector: record
        for selector, records in found.items()
        for record in records
        if _tags(record).get("v", "DKIM1") == "DKIM1" and "p" in _tags(record)
    }
    judged = {selector: _problem(record) for selector, record in keys.items()}
    good = [selector for selector, (problem, _) in judged.items() if not problem]
    if good:
        weak = min(judged[selector][1] for selector in good)
        could_be_longer = f"; {_USUAL} bits are usual today" if weak < _USUAL else ""
        named = ", ".join(good)
        kind = "Ed25519" if weak == _NO_RSA else f"RSA, {weak} bits"
        return _line(Verdict.OK, f"{domain} has a key at {named} ({kind}){could_be_longer}")
    if judged:
        selector, (problem, _) = next(iter(judged.items()))
        return _line(
            Verdict.WARN,
            f"the key of {domain} at {selector} cannot be used: {problem}",
            f"publish the key that your provider names for {selector}, of {_USUAL} bits",
        )
    if silent == len(found):
        return _line(Verdict.UNKNOWN, f"DNS did not answer for the keys of {domain}")
    return _line(
        Verdict.UNKNOWN,
        f"none of {len(found)} usual names of a key is one of {domain}; it may have another",
        "send yourself a test message and look for dkim=pass with this domain in its Authentication-Results",
    )


_NO_RSA: Final = 1 << 20


def _problem(record: str) -> tuple[str, int]:
    """Return what is wrong with a key, and its bits."""
    tags = _tags(record)
    encoded = re.sub(r"\s+", "", tags["p"])
    if not encoded:
        return "it was revoked", 0
    try:
        key = b64decode(encoded, validate=True)
    except (Error, ValueError):
        return "it is no base64", 0
    if tags.get("k", "rsa") == "ed25519":
        return ("" if len(key) == _ED25519_BYTES else "it is no Ed25519 key"), _NO_RSA
    if tags.get("k", "rsa") != "rsa":
        return f"receivers do not know its kind {tags['k'][:20]!r}", 0
    bits = _rsa_bits(key)
    if bits is None:
        return "it is no RSA key", 0
    return (f"it has {bits} bits, and receivers take none below {SHORTEST}" if bits < SHORTEST else ""), bits


def _rsa_bits(key: bytes) -> int | None:
    """Return the length of the modulus in a SubjectPublicKeyInfo (RFC 5280), or in an RSAPublicKey."""
    try:
        outer = _value(key, 0x30)
        if outer[:1] == b"\x30":
            _, rest = _next(outer)
            outer = _value(_value(rest, 0x03)[1:], 0x30)  # a bit string, whose first byte counts unused bits
        return int.from_bytes(_value(outer, 0x02)).bit_length()
    except (IndexError, ValueError):
        return None


def _value(data: bytes, tag: int) -> bytes:
    if data[0] != tag:
        raise ValueError
    return _next(data)[0]


def _next(data: bytes) -> tuple[bytes, bytes]:
    """Split the first value of DER from the rest."""
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start])
    if not length or len(data) < start + length:
        raise ValueError
    return data[start : start + length], data[start + length :]


def _tags(record: str) -> dict[str, str]:
    return dict(_TAG.findall(record))


def _line(verdict: Verdict, said: str, do: str = "") -> Line:
    return Line(what="DKIM", verdict=verdict, said=said, do=do)
