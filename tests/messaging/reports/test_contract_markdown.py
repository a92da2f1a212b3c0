"""The section of a contract's result in Markdown."""

from messaging.reports.contract_markdown import contract_markdown
from schemas.contract import Check, ContractResult

CHECKS = [
    Check(name="min_rows", says="1 or more rows", observed=1_200.0, bound=1, holds=True),
    Check(name="max_drop_percent", says="at most 50 % fewer rows", observed=80.0, bound=50, holds=False),
]


def test_it_says_the_verdict_and_every_check():
    assert contract_markdown(ContractResult(holds=False, checks=CHECKS)).splitlines() == [
        "## Contract: broken",
        "",
        "| Expected | Found | Verdict |",
        "|---|---|---|",
        "| 1 or more rows | 1,200 rows | holds |",
        "| at most 50 % fewer rows | 80 % | **broken** |",
    ]
    kept = contract_markdown(ContractResult(holds=True, checks=CHECKS[:1]))
    assert kept.startswith("## Contract: kept\n")


def test_who_accepted_a_breach_is_named_and_no_markup_of_theirs_counts():
    result = ContractResult(
        holds=False,
        checks=CHECKS,
        accepted_by="data_team",
        accepted_because="a <b>new</b>\n# *file* | [x](y)",
    )

    assert (
        r"Loaded all the same: **data\_team** gave as the reason "
        r"“a \<b\>new\</b\> \# \*file\* \| \[x\](y)”." in contract_markdown(result).splitlines()
    )
