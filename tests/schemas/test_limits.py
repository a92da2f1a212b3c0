"""Limits in a sentence, with what the provider allows."""

import pytest

from schemas.limits import AccountLimits, AllowedByProvider


@pytest.mark.parametrize(
    ("allowed", "said"),
    [
        ({}, ""),
        ({"rate": "14/s"}, "14/s"),
        ({"per_day": 50_000}, "50,000 a day"),
        ({"rate": "14/s", "per_day": 50_000}, "14/s and 50,000 a day"),
        ({"portfolio": "Shop", "portfolio_per_day": 250}, "250 people a day in portfolio Shop"),
        (
            {"rate": "80/s", "per_day": 500, "portfolio": "Shop", "portfolio_per_day": 250},
            "80/s, 500 a day and 250 people a day in portfolio Shop",
        ),
    ],
)
def test_what_a_provider_allows_is_said_after_what_a_person_set(allowed: dict, said: str):
    provider = AllowedByProvider(**allowed)
    limits = AccountLimits(
        account="smtp-account/main", rate="200/s", per_day=None, domains={}, provider=provider
    )

    assert str(provider) == said
    assert limits.sentence == (f"200/s (the provider allows {said})" if said else "200/s")
    assert limits.set_by_person


def test_a_quota_is_nothing_that_a_person_set():
    provider = AllowedByProvider(rate="14/s")
    limits = AccountLimits(account="a/b", rate=None, per_day=None, domains={}, provider=provider)

    assert not limits.set_by_person
    assert limits.sentence == "no limit (the provider allows 14/s)"
