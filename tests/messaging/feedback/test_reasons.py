"""What servers say, and what it means: `said.txt` has a line for each."""

import tomllib
from importlib import resources
from pathlib import Path

import pytest

from messaging.feedback.codes import Codes, codes_in
from messaging.feedback.reasons import class_of, folded, judge, suppression
from schemas.bounces import BounceClass, BounceReason, Suppress

SAID = (Path(__file__).parent / "said.txt").read_text("utf-8").splitlines()
TABLE = tomllib.loads(resources.files("messaging.feedback").joinpath("reasons.toml").read_text("utf-8"))


@pytest.mark.parametrize("line", SAID)
def test_what_a_server_says_means_what_it_should(line: str):
    meaning, _, said = line.partition(" | ")
    codes = codes_in(said)

    judgement = judge((said,), said=codes.status, reply=codes.reply)

    assert class_of(judgement.reason) == meaning, judgement


def test_every_reason_has_a_class_and_says_when_it_suppresses():
    assert {BounceReason(name) for name in TABLE if name != "codes"} == set(BounceReason)
    for reason in BounceReason:
        assert isinstance(class_of(reason), BounceClass)
        assert isinstance(suppression(reason), Suppress)


def test_nothing_but_hard_reasons_and_complaints_suppresses_soon():
    soon = {
        reason for reason in BounceReason if suppression(reason) in {Suppress.AT_ONCE, Suppress.SECOND_TIME}
    }

    assert {class_of(reason) for reason in soon} == {BounceClass.HARD, BounceClass.COMPLAINT}


def test_every_code_of_the_table_names_a_reason():
    assert {BounceReason(reason) for reason in TABLE["codes"].values()} <= set(BounceReason)


def test_no_words_stand_under_two_reasons():
    seen: dict[str, str] = {}
    for name, rows in TABLE.items():
        for row in rows.get("says", []) if name != "codes" else []:
            assert seen.setdefault(folded(row), name) == name, row


def test_what_an_address_is_called_says_nothing():
    assert folded("550 5.1.1 <virus.spam@blocked.example>: user\n unknown") == "@: user unknown"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("550 5.1.1 <a@b.example>: no", Codes("5.1.1", "550")),
        ("host mx[192.0.2.5] said: 421\n    4.7.0 [TSS04] 4.16.55.1", Codes("4.7.0", "421")),
        ("5.1.0 - Unknown address error 550-'5.4.1 denied'", Codes("5.4.1", "550")),
        ("Sorry, no mailbox here by that name. (#5.1.1)", Codes("5.1.1", "")),
        ("mailbox full", Codes()),
        ("Exim 4.96.2 at 192.0.2.55:4500", Codes()),
    ],
)
def test_codes_are_found_and_what_looks_like_one_is_not(said: str, expected: Codes):
    assert codes_in(said) == expected


def test_the_last_server_of_a_chain_is_believed():
    said = "host a said: 550 5.1.1 Recipient rejected: undeliverable address: host b said: 552 mailbox full"

    assert judge((said,)).reason is BounceReason.MAILBOX_FULL
