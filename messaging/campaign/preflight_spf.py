"""SPF as a receiver reads it (RFC 7208): which record counts, what it costs to follow, whom it lets in."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from schemas.preflight import Line, Verdict

MOST_LOOKUPS: Final = 10  # RFC 7208, 4.6.4: one more, and the answer is an error for everybody
_VERSION: Final = "v=spf1"
_TERM = re.compile(
    r"(?P<sign>[+?~-]?)(?P<name>all|include|a|mx|ptr|ip4|ip6|exists)(?::(?P<name_of>[^\s/]\S*?))?(?P<cidr>/\S*)?",
    re.IGNORECASE,
)
_ADDRESSES = re.compile(r"[+?~-]?ip[46]:[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?", re.IGNORECASE)
_MODIFIER = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_.-]*)=(?P<value>\S*)")
_MACRO = "%{"
_COSTS: Final = frozenset({"include", "a", "mx", "ptr", "exists"})  # a question each; redirect as well
_DEEPEST: Final = 20

Texts = Callable[[str], Awaitable[Sequence[str]]]
"""Returns a name's TXT records; none when there is no such name, or none of them."""


class _Broken(Exception):
    """What makes receivers take the whole of it for an error."""


@dataclass(slots=True)
class _Following:
    """What following a record has cost so far."""

    texts: Texts
    lookups: int = 0
    path: list[str] = field(default_factory=list)


def is_spf(record: str) -> bool:
    """Tell whether a TXT record is one of SPF (RFC 7208, 4.5)."""
    return record.lower() == _VERSION or record.lower().startswith(f"{_VERSION} ")


async def judge_spf(domain: str, texts: Texts) -> Line:
    """Judge the SPF of the domain that bounces go to.

    Raises:
        DNSException: No answer, or a fault.
    """
    records = [record for record in await texts(domain) if is_spf(record)]
    if not records:
        return _line(
            Verdict.WARN,
            f"{domain} has no SPF record",
            f"publish a TXT record at {domain}, as in v=spf1 include:YOUR-PROVIDER -all",
        )
    if len(records) > 1:
        return _line(
            Verdict.WARN,
            f"{domain} has {len(records)} SPF records, so receivers take it for an error",
            "make one TXT record of them",
        )
    following = _Following(texts)
    try:
        end = await _follow(domain, records[0], following)
    except _Broken as broken:
        return _line(
            Verdict.WARN, f"the SPF record of {domain} is an error to receivers: {broken}", "mend the record"
        )
    if following.lookups > MOST_LOOKUPS:
        return _line(
            Verdict.WARN,
            f"the SPF record of {domain} asks for {following.lookups} look-ups or more, and receivers stop "
            f"at {MOST_LOOKUPS}",
            "take out the includes that send nothing for you, or write their ip4 and ip6 ranges instead",
        )
    if end == "+":
        return _line(
            Verdict.WARN,
            f"the SPF record of {domain} lets everybody send (+all)",
            "end it in -all or ~all",
        )
    ends = {"-": "-all", "~": "~all", "?": "?all"}.get(end, "no all")
    return _line(
        Verdict.OK, f"{domain} has one SPF record of {following.lookups} look-ups, which ends in {ends}"
    )


async def _follow(domain: str, record: str, following: _Following) -> str:
    """Follow a record and return the sign before its `all`; nothing: it has none."""
    if domain in following.path or len(following.path) >= _DEEPEST:
        raise _Broken(f"it leads in a circle at {domain}")
    following.path.append(domain)
    end, redirect = "", ""
    for word in record.split()[1:]:
        if modifier := _MODIFIER.fullmatch(word):
            if modifier["name"].lower() == "redirect":
                redirect = modifier["value"]
            continue
        term = _TERM.fullmatch(word)
        if term is None or (term["name"].lower() in {"ip4", "ip6"} and not _ADDRESSES.fullmatch(word)):
            raise _Broken(f"{word[:60]!r} is no term of SPF")
        name = term["name"].lower()
        if name == "all":
            end = term["sign"] or "+"
            break  # what is behind it is never looked at (RFC 7208, 5.1)
        await _term(name, term["name_of"] or domain, following, needs_name=term["name_of"] is None)
    if not end and redirect:
        end = await _redirected(redirect, following)
    following.path.pop()
    return end


async def _term(name: str, target: str, following: _Following, *, needs_name: bool) -> None:
    if name not in _COSTS:
        return
    if needs_name and name in {"include", "exists"}:
        raise _Broken(f"{name} names no domain")
    following.lookups += 1
    if name == "include" and _MACRO not in target and following.lookups <= MOST_LOOKUPS:
        await _follow(target, await _only_record(target, "include", following), following)


async def _redirected(target: str, following: _Following) -> str:
    following.lookups += 1
    if _MACRO in target or following.lookups > MOST_LOOKUPS:
        return ""
    return await _follow(target, await _only_record(target, "redirect", following), following)


async def _only_record(domain: str, word: str, following: _Following) -> str:
    records = [record for record in await following.texts(domain) if is_spf(record)]
    if len(records) != 1:
        raise _Broken(f"{word} leads to {domain}, which has {len(records) or 'no'} SPF records")
    return records[0]


def _line(verdict: Verdict, said: str, do: str = "") -> Line:
    return Line(what="SPF", verdict=verdict, said=said, do=do)
