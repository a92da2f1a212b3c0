"""What is no fault and worth a look: roles, throw-away and mistyped domains, mixed scripts, formulas."""

from collections.abc import Iterator
from functools import lru_cache
from string import ascii_lowercase, digits

import disposable_email_domains
import polars as pl

from messaging.audience.words import words_of

_NAME_LETTERS = ascii_lowercase + digits
_LONG_NAME = 5  # the letters of shorter names make other people's names too easily: web.de and weg.de
_SWAPPED_NAME = 4
# Mistyped ends that are no top-level domains, and real ones that long names are mistyped into.
_ENDS = {
    ".com": (
        (
            ".con",
            ".cmo",
            ".ocm",
            ".comm",
            ".coom",
            ".ccom",
            ".cpm",
            ".vom",
            ".xom",
            ".c0m",
            ".cim",
            ".com.com",
        ),
        (".co", ".cm", ".om"),
    ),
    ".net": ((".nte", ".ent", ".nett", ".ner", ".nrt", ".met"), (".ne",)),
}

# No language writes these together with other scripts; Latin goes with those of the far east (UTS 39, highly
# restrictive).
_ALONE = ("Cyrillic", "Greek", "Armenian", "Georgian", "Hebrew", "Arabic", "Cherokee", "Devanagari", "Thai")
_FAR_EAST = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}"

# What a spreadsheet would compute: anything after =, a call, a cell or a sum after the others.
_FORMULA = (
    r"\A\s*(?:=\s*\S|[+@-]\s*(?:[A-Za-z_.][\w.]*\s*[(|!]|\$?[A-Za-z]{1,3}\$?\d+\b|[\d.,]+\s*[*/^+-]\s*[\d(]))"
)


def is_role(local_part: pl.Expr) -> pl.Expr:
    """Tell whether a function reads the mailbox rather than a person; a +tag does not matter."""
    return (
        local_part.str.to_lowercase()
        .str.splitn("+", 2)
        .struct.field("field_0")
        .is_in(words_of("email", "addresses")["roles"])
    )


def judge_domains(domains: pl.Series) -> pl.DataFrame:
    """Return a row per distinct domain (lower-case ASCII): `domain`, `email_disposable`, `email_typo`."""
    table = pl.DataFrame({"domain": domains.drop_nulls().unique()}).join(
        _notable_domains(), on="domain", how="left"
    )
    parent = pl.col("domain").str.extract(r"\.([^.]+\.[^.]+)\z")  # mx.mailinator.com
    disposable = pl.coalesce("email_disposable", parent.is_in(_disposable().implode()), pl.lit(value=False))
    return table.with_columns(email_disposable=disposable)


def mixes_scripts(text: pl.Expr, within: str = r"[\p{L}\p{M}\p{N}]") -> pl.Expr:
    """Tell whether a word has letters of scripts that are not written together: it may pass for another.

    `within` is a character class of what makes a word.
    """
    pairs = [(r"\p{Latin}", rf"[\p{{L}}--[\p{{Latin}}\p{{Common}}{_FAR_EAST}]]")]
    pairs += [
        (rf"[\p{{L}}&&\p{{{script}}}]", rf"[\p{{L}}--[\p{{{script}}}\p{{Common}}]]") for script in _ALONE
    ]
    pairs += [(r"\p{Hangul}", r"[\p{Hiragana}\p{Katakana}\p{Bopomofo}]")]
    either = "|".join(f"{one}{within}*{other}|{other}{within}*{one}" for one, other in pairs)
    return text.str.contains(either)


def is_formula(text: pl.Expr) -> pl.Expr:
    """Tell whether a spreadsheet would compute the text when it opens an export."""
    return text.str.contains(_FORMULA)


@lru_cache(maxsize=1)
def _disposable() -> pl.Series:
    return pl.Series(list(disposable_email_domains.blocklist))


@lru_cache(maxsize=1)
def _notable_domains() -> pl.DataFrame:
    """List throw-away domains, and every likely mistype of the big mail domains: some 40,000."""
    mail_domains = words_of("email", "addresses")["mail_domains"]
    known = {*mail_domains, *words_of("email", "addresses")["real_neighbours"]}
    meant = {
        typo: domain
        for domain in reversed(mail_domains)  # the first is the likeliest
        for typo in _mistypes(domain)
    }
    disposable = list(disposable_email_domains.blocklist - known)
    typos = pl.DataFrame({"domain": list(meant), "meant": list(meant.values())}).filter(
        ~pl.col("domain").is_in(list(known))
    )
    thrown_away = pl.DataFrame({"domain": disposable, "email_disposable": True})
    return typos.join(thrown_away, on="domain", how="full", coalesce=True).select(
        "domain", "email_disposable", email_typo=pl.format("{} → {}", "domain", "meant")
    )


def _mistypes(domain: str) -> Iterator[str]:
    """Yield what is one slip away from a domain: a letter more, less, wrong or swapped, or a wrong end.

    First letters are seldom mistyped, and ends such as .de and .be are all real.
    """
    name, dot, end = domain.partition(".")
    end = dot + end
    if len(name) >= _SWAPPED_NAME:
        yield from (name[:i] + name[i + 1] + name[i] + name[i + 2 :] + end for i in range(len(name) - 1))
    if len(name) >= _LONG_NAME:
        yield from (name[:i] + name[i + 1 :] + end for i in range(1, len(name)))
        yield name[0] + name + end
        for letter in _NAME_LETTERS:
            yield from (name[:i] + letter + name[i + 1 :] + end for i in range(1, len(name)))
            yield from (name[:i] + letter + name[i:] + end for i in range(1, len(name) + 1))
    never, seldom = _ENDS.get(end, ((), ()))
    yield from (name + wrong for wrong in never)
    if len(name) >= _LONG_NAME:
        yield from (name + wrong for wrong in seldom)
