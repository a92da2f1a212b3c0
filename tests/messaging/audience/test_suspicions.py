"""What is worth a look in rows that are taken."""

import polars as pl
import pytest

from messaging.audience.suspicions import is_formula, is_role, judge_domains, mixes_scripts


def tells(judge, text: str) -> bool:
    return pl.DataFrame({"text": [text]}).select(judge(pl.col("text"))).item()


def typo(domain: str) -> str | None:
    return judge_domains(pl.Series([domain]))["email_typo"].item()


@pytest.mark.parametrize(
    ("domain", "meant"),
    [
        *(
            (mistyped, "gmail.com")
            for mistyped in ("gmial.com", "gmai.com", "gmaill.com", "gmaik.com", "gmail.con")
        ),
        *(
            (mistyped, "gmail.com")
            for mistyped in ("gmail.co", "gmail.cm", "mgail.com", "ggmail.com", "gmail.comm")
        ),
        *(
            (mistyped, "hotmail.com")
            for mistyped in ("hotmial.com", "hotmal.com", "hotmil.com", "hotmail.vom")
        ),
        *(("yaho.com", "yahoo.com"), ("yahooo.co.uk", "yahoo.co.uk"), ("outlok.de", "outlook.de")),
        *(
            ("lvie.com", "live.com"),
            ("aol.con", "aol.com"),
            ("librero.it", "libero.it"),
            ("t-onlin.de", "t-online.de"),
        ),
        *(("comcast.nte", "comcast.net"), ("protonmal.com", "protonmail.com"), ("ornage.fr", "orange.fr")),
    ],
)
def test_a_domain_one_slip_away_from_a_big_one_is_likely_mistyped(domain: str, meant: str):
    assert typo(domain) == f"{domain} → {meant}"


@pytest.mark.parametrize(
    "domain",
    [
        *(
            "gmail.com",
            "mail.com",
            "email.com",
            "ymail.com",
            "gmx.de",
            "gmx.net",
            "gmx.com",
            "gmx.at",
            "web.de",
        ),
        *("weg.de", "me.com", "live.com", "live.de", "hotmail.co.uk", "hotmail.dk", "yahoo.co.jp", "aol.de"),
        *("bol.com", "inbox.ru", "free.fr", "example.org", "gail.in", "outlook.example.com", "qq.com"),
        *("libera.it", "globe.com", "msnbc.com", "cox.com", "mail.de", "fmail.com", "icloud.example"),
    ],
)
def test_real_domains_are_not_called_mistyped(domain: str):
    assert typo(domain) is None


@pytest.mark.parametrize(
    ("domain", "disposable"),
    [("mailinator.com", True), ("eu.mailinator.com", True), ("gmail.com", False), ("example.co.uk", False)],
)
def test_throw_away_domains_are_known_with_those_below_them(domain: str, *, disposable: bool):
    assert judge_domains(pl.Series([domain]))["email_disposable"].item() is disposable


@pytest.mark.parametrize(
    ("local_part", "role"),
    [
        *((local_part, True) for local_part in ("info", "Info", "no-reply", "sales+eu", "kontakt")),
        *((local_part, False) for local_part in ("informatica", "ada.info", "ada+info", "ada")),
    ],
)
def test_a_role_is_the_whole_local_part_before_a_tag(local_part: str, *, role: bool):
    assert tells(is_role, local_part) is role


@pytest.mark.parametrize(
    "text",
    [
        *(
            "apple",
            "José",
            "Łódź",
            "Иванов",
            "Ada Иванов",
            "Ada-Иванов",
            "Ελλάδα",
            "naïve",
            "µm",
            "ключ1",
            "x²",
        ),
        *(
            "王Wang",
            "ひらカタ漢字A",
            "한글漢字K",
            "ラーメン",
            "محمد",
            "دانش\u200cآموز",
            "नमस्ते",
            "",
            "123",
            "👩\u200d💻",
        ),
    ],
)
def test_scripts_that_are_written_together_are_not_mixed(text: str):
    assert tells(mixes_scripts, text) is False


@pytest.mark.parametrize(
    "text",
    [
        *("\u0430pple", "p\u0430ypal", "Жд\u0061н", "Ωmega", "Ada \u0415va", "한글かな", "Жω", "ա漢"),
        "a\u0436\u0301",
    ],
)
def test_a_word_with_letters_of_scripts_that_do_not_go_together_is_mixed(text: str):
    assert tells(mixes_scripts, text) is True


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "=A1", '=HYPERLINK("http://example.org")', "=cmd|' /C calc'!A0", " =1", "=\tx"),
        *("+1+1", "-2+3", "@SUM(1,2)", "+A1", "-cmd|x!A1"),
    ],
)
def test_what_a_spreadsheet_would_compute_is_a_formula(text: str):
    assert tells(is_formula, text) is True


@pytest.mark.parametrize(
    "text", ["Ada", "@ada", "- Ada", "-", "=", "a=b", "+49 151 234", "-Anne-Marie", "1+1", ""]
)
def test_a_sign_before_a_name_is_no_formula(text: str):
    assert tells(is_formula, text) is False
