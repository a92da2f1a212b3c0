"""Signing many tokens with one key makes the same ones as signing each by itself."""

from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from messaging.tokens import LENGTH, LinkKey, Purpose, Signer, read, sign, unverified

KEYS = st.builds(LinkKey, st.integers(1, 255), st.binary(min_size=32, max_size=32))


@given(
    key=KEYS,
    purpose=st.sampled_from(Purpose),
    attempts=st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=3),
    bound=st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
)
@settings(max_examples=100, deadline=None)
def test_a_signer_makes_the_tokens_that_are_read(
    key: LinkKey, purpose: Purpose, attempts: list[bytes], bound: str
):
    signer = Signer(key, purpose)

    for attempt in attempts:
        token = signer.sign(attempt, bound.encode())
        assert token == sign(key, purpose, attempt, bound)
        assert len(token) == LENGTH
        assert read({key.id: key.key}, purpose, token, bound) == unverified(token) == UUID(bytes=attempt)
        assert read({key.id: key.key}, purpose, token, f"{bound}x") is None
