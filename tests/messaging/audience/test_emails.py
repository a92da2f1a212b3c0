"""Addresses: what is accepted, mended, refused and why, and the fast path beside email-validator."""

import email_validator
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messaging.audience.emails import judge_email, judge_emails
from tests.messaging.audience import row_loop

TRICKY = [
    *("a@example.org", "A.B@Example.ORG", "a@example.com", "a@mail.example.net", "a@b.example", "a@example"),
    *(
        "a@localhost",
        "a@x.localhost",
        "a@x.local",
        "a@x.LOCAL",
        "a@x.test",
        "a@test",
        "a@x.invalid",
        "a@x.onion",
    ),
    *("a@x.arpa", "a@local.org", "a@mytest", "a@my.test.org", "a@xlocal.org", "a@notlocal"),
    *("a@example.c", "a@example.c1", "a@example.1c", "a@1.2.3.4", "a@[1.2.3.4]", "a@[IPv6:::1]", "a@123.org"),
    *("a@-b.org", "a@b-.org", "a@b.-org", "a@b--c.org", "a@bc--d.org", "a@bcd--e.org", "a@xn--nio-8ma.org"),
    *("a@xn--a.org", "a@XN--NIO-8MA.org", "a--b@example.org", "a@b_c.org", "a@b..org", "a@.org", "a@b.org."),
    *(
        "a.@example.org",
        ".a@example.org",
        "a..b@example.org",
        "a@@example.org",
        "a@b@example.org",
        "@example.org",
    ),
    *(
        "a@",
        "@",
        "",
        "a",
        "a b@example.org",
        "a@exam ple.org",
        "a\tb@example.org",
        "a@example.org\n",
        "a\0@b.org",
    ),
    *('"a"@example.org', '"a b"@example.org', '"a@b"@example.org', "a\\b@example.org", "(x)a@example.org"),
    *(
        "a(x)@example.org",
        "a@example.org(x)",
        "<a@example.org>",
        "Ada <a@example.org>",
        "mailto:a@example.org",
    ),
    *(
        "!#$%&'*+/=?^_`{|}~-@example.org",
        "a,b@example.org",
        "a;b@example.org",
        "a:b@example.org",
        "[a]@b.org",
    ),
    *(
        "x" * 64 + "@example.org",
        "x" * 65 + "@example.org",
        "a@" + "b" * 63 + ".org",
        "a@" + "b" * 64 + ".org",
    ),
    *("a@" + "b." * 124 + "org", "a@" + "b." * 125 + "org", "a@" + "b." * 126 + "org", "a@b." + "c" * 63),
    *("a@b." + "c" * 64, "x" * 64 + "@" + "b" * 60 + "." + "b" * 60 + "." + "b" * 60 + ".orga"),
    *("x" * 64 + "@" + "b" * 60 + "." + "b" * 60 + "." + "b" * 61 + ".orga", "ñandú@example.org"),
    *(
        "n\u0303@example.org",
        "a@niño.es",
        "a@NIÑO.es",
        "a@faß.de",
        "a@ex。org",
        "\uff41@example.org",
        "a\uff20example.org",
    ),
    *(
        "a\u200b@example.org",
        "\u202ea@example.org",
        "a@exam\u200bple.org",
        "a@example.org\u200b",
        "😀@example.org",
    ),
    *("a@😀.org", "a@пример.рф", "İ@example.org", "ß@example.org", "\u0301a@example.org", "a@\u0301b.org"),
    *("INFO@example.org", "PostMaster@Example.org", "a@b.xn--p1ai", "a@b.рф", "a@أ.example.org", "a@ab.c-d"),
]


def reference(address: str) -> str | None:
    """Return the address as email-validator's own results spell it, or None when it refuses."""
    try:
        found = email_validator.validate_email(address, check_deliverability=False, strict=True)
    except email_validator.EmailNotValidError:
        return None
    return f"{found.local_part.lower()}@{found.ascii_domain}"


def judged(cells: list[str]) -> dict[str, dict]:
    rows = judge_emails(pl.Series("given", cells, dtype=pl.String))
    assert rows.select((pl.col("email_key").is_null() != pl.col("email_reason").is_null()).all()).item()
    return {row["given"]: row for row in rows.iter_rows(named=True)}


def as_it_stands(row: dict) -> str | None:
    """Return the key of an address that nothing was done to."""
    return None if row["email_mended"] or row["email_several"] else row["email_key"]


def test_tricky_addresses_are_accepted_as_they_stand_as_by_email_validator():
    found = {address: as_it_stands(row) for address, row in judged(TRICKY).items()}

    assert found == {address: reference(address) for address in TRICKY}


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from('aZ0.-_+@"é nx'), max_size=16).map(lambda made: made.replace(" ", "")))
def test_the_fast_path_accepts_nothing_that_email_validator_refuses(made: str):
    addresses = [made, f"{made}@example.org", f"a@{made}.org", f"a@xn--{made}.org", f"a@b.{made}"]

    found = {address: as_it_stands(row) for address, row in judged(addresses).items()}

    assert found == {address: reference(address) for address in addresses}


ADDRESSES = ["ada@example.org", "Bob@Example.org", "niño@niño.es", "ada@@example.org", "c@d.org"]
NAMED = ["<ada@example.org>", "Bob <bob@example.org>", "Ada Lovelace", "ada", "a", "mailto:", "?subject=Hi"]
SIGNS = ["@", "\uff20", "%40", *"<>;,|/.'()[]“", '"', " ", "\n", "\r\n", "\u200b", "\x07"]
pieces = st.sampled_from([*ADDRESSES, *NAMED, *SIGNS])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(pieces, min_size=1, max_size=7).map("".join), min_size=1, max_size=8))
def test_cells_are_mended_as_by_a_loop_over_rows(cells: list[str]):
    cells = [stripped for cell in cells if (stripped := row_loop.strip(cell))]
    columns = ("email", "email_key", "email_reason", "email_mended", "email_several")

    found = {cell: tuple(row[column] or "" for column in columns) for cell, row in judged(cells).items()}

    assert found == {cell: tuple(part or "" for part in row_loop.judge_email(cell)) for cell in cells}


@pytest.mark.parametrize(
    ("address", "email", "key"),
    [
        ("Ada.L@Example.ORG", "Ada.L@example.org", "ada.l@example.org"),
        ("Ada@NIÑO.example.org", "Ada@xn--nio-8ma.example.org", "ada@xn--nio-8ma.example.org"),
        ("N\u0303u@example.org", "Ñu@example.org", "ñu@example.org"),
        ("INFO@example.org", "INFO@example.org", "info@example.org"),
    ],
)
def test_the_local_part_stays_as_given_and_the_key_is_lower_case(address: str, email: str, key: str):
    row = judged([address])[address]

    assert (row["email"], row["email_key"], row["email_reason"], row["email_mended"]) == (
        email,
        key,
        None,
        False,
    )
    assert judge_email(address) == (email, key, None, False, False)


@pytest.mark.parametrize(
    "cell",
    [
        *("mailto:Ada@example.org", "MAILTO:Ada@example.org?subject=Hello, you", "mailto:%41da@example.org"),
        *(
            "<Ada@example.org>",
            "Ada Lovelace <Ada@example.org>",
            "<mailto:Ada@example.org>",
            "<Ada@example.org",
        ),
        *(
            '"Lovelace, Ada" <Ada@example.org>',
            "Lovelace, Ada <Ada@example.org>",
            "ada@home <Ada@example.org>",
        ),
        *(
            "'Ada@example.org",
            "'Ada@example.org'",
            '"Ada@example.org"',
            "“Ada@example.org”",
            "(Ada@example.org)",
        ),
        *(
            "Ada@example.org.",
            "Ada@example.org,",
            "Ada@example.org ;",
            "[Ada@example.org]",
            ".Ada@example.org",
        ),
        *("Ada @ example.org", "Ada@ example.org", "Ada\uff20example.org", "Ada@example.org。"),
        *("A\u200bda@example.org", "Ada@exam\u2060ple.org", "Ad\x07a@example.org", "\u202eAda@example.org"),
        "Ada@example.org <mailto:Ada@EXAMPLE.org>",
    ],
)
def test_what_surrounds_an_address_is_taken_off_and_noted(cell: str):
    row = judged([cell])[cell]

    assert (row["email"], row["email_mended"], row["email_several"]) == ("Ada@example.org", True, False)


@pytest.mark.parametrize(
    ("cell", "email", "mended"),
    [
        ("ada@example.org; bob@example.org", "ada@example.org", False),
        ("ada@example.org,bob@example.org", "ada@example.org", False),
        ("ada@example.org | bob@example.org", "ada@example.org", False),
        ("ada@example.org\nbob@example.org", "ada@example.org", False),
        ("ada@example.org bob@example.org", "ada@example.org", False),
        ("ada@example.org/bob@example.org", "ada@example.org", False),
        ("ada@@example.org; bob@example.org", "bob@example.org", False),
        ("Ada <ada@example.org>, Bob <bob@example.org>", "ada@example.org", True),
        ("ada@example.org, Smith, Bob <bob@example.org>", "ada@example.org", False),
    ],
)
def test_of_several_addresses_the_first_good_one_is_taken(cell: str, email: str, *, mended: bool):
    row = judged([cell])[cell]

    assert (row["email"], row["email_mended"], row["email_several"]) == (email, mended, True)


@pytest.mark.parametrize(
    "cell",
    [
        *("ada lovelace@example.org", "lovelace, ada@example.org", "lovelace;ada@example.org"),
        *("ada@mail.example,com", "ada@mail.example com", "ada@example.org (work)", "ada@example.org/de"),
        *("<ada@example.org>bob@example.com", "alice@example.org)bob@example.com", "ada@example.org\r\nDATA"),
        *("ada(at)example.org", "ada@example.org, Bob", "mailto:ada@example.org%0d%0abob@example.org"),
        "<ada@example.org><bob@example.org>",
    ],
)
def test_words_that_may_belong_to_the_address_are_not_taken_off(cell: str):
    assert judged([cell])[cell]["email"] is None


# One of each kind that the isemail suite calls invalid for any purpose: no local part, no domain, dots and
# hyphens at wrong places, open quotes, comments and literals, text after them, controls.
INVALID = [
    *("", "ada", "@", "ada@", "@example.org", ".ada@example.org", "ada.@example.org", "a..b.example.org"),
    *("ada@.example.org", "ada@example.org.", "ada@example..org", "ada@-example.org", "ada@example-.org"),
    *("ada@example.org-", "a\\@b@example.org", '"""@example.org', '"\\"@example.org', 'a"b@example.org'),
    *('"ada@example.org', '"a"b@example.org', 'a"b"@example.org', '"a""b"@example.org', '"a\0"@example.org'),
    *("ada@b[192.0.2.1]", "((c)ada@example.org", "a(c)b@example.org", "(ada@example.org", "ada@(example.org"),
    *("ada@[192.0.2.1", "(c\\)ada@example.org", "ada@example.org(c\\)", "ada@example.org(c\\", "ada@[x]-y]"),
    *("ada@[x-[y]", "ada@[x\\]", "ada@[x\\", "ada@.org", "ada@example.org\n", "ada@example.org\r"),
    *(
        "\rada@example.org",
        '"\rada"@example.org',
        "(\r)ada@example.org",
        "ada@example.org(\n)",
        "\nada@example.org",
    ),
    *(
        "\x07@example.org",
        "ada@\x07.org",
        '"\n"@example.org',
        "\r\n \r\nada@example.org",
        '"a\\©"@example.org',
    ),
]


def test_what_no_standard_allows_is_not_accepted_as_it_stands():
    """Some of it is a good address after mending, and that one is judged: a dot or a line end behind it."""
    rows = judged(INVALID)

    assert [cell for cell, row in rows.items() if as_it_stands(row)] == []
    assert {row["email"] for row in rows.values()} == {None, "ada@example.org"}


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ada.example.org", "e-mail: no @"),
        (",", "e-mail: no @"),
        ("ada@@example.org", "e-mail: more than one @"),
        ("a@@example.org; b@localhost", "e-mail: more than one @"),
        ("x" * 65 + "@example.org", "e-mail: too long"),
        ("a@" + "b." * 130 + "org", "e-mail: too long"),
        ("ada@mail.local", "e-mail: reserved domain"),
        ("<ada@mail.local>", "e-mail: reserved domain"),
        ("ada@example,org", "e-mail: bad domain"),
        ("ada@example..org", "e-mail: bad domain"),
        ("ada@example", "e-mail: bad domain"),
        ("ada@", "e-mail: bad domain"),
        ("ada.@example.org", "e-mail: syntax"),
        ("Ada <ada>@example.org", "e-mail: syntax"),
    ],
)
def test_a_refusal_says_what_is_wrong(address: str, reason: str):
    assert judged([address])[address]["email_reason"] == reason


@pytest.mark.parametrize("length", [5_000, 10_000_000])
@pytest.mark.parametrize("filling", ["b", " ", "@", "<", "a@b..org,", " @", "mailto:", "?"])
def test_a_very_long_cell_is_judged_at_once(filling: str, length: int):
    cell = "a@" + filling * (length // len(filling))

    assert judge_email(cell).email is None


def test_each_cell_is_judged_once_and_empty_ones_are_not():
    assert judged([]) == {}
    assert judge_emails(pl.Series([None, "a@example.org", "a@example.org"])).height == 1


def test_suspicions_are_about_the_mended_address():
    team, thrown_away, mixed = "Sales <Info+eu@gmial.com>", "x@mail.mailinator.com", "x@\u0430pple.org"

    rows = judged([team, thrown_away, mixed, "ada@example.org", "ada@"])

    assert {cell for cell, row in rows.items() if row["email_role"]} == {team}
    assert {cell for cell, row in rows.items() if row["email_mixed_scripts"]} == {mixed}
    assert rows[thrown_away]["email_disposable"] is True
    assert rows["ada@example.org"]["email_disposable"] is rows["ada@"]["email_disposable"] is False
    assert {cell: row["email_typo"] for cell, row in rows.items() if row["email_typo"]} == {
        team: "gmial.com → gmail.com"
    }
