"""Only errors that name no people get out of a task, and only what can succeed unchanged is tried again."""

import pytest
from prefect.states import exception_to_failed_state
from sqlalchemy import Engine, text

from messaging.errors import AccountError, DatabaseError, InputError, MessagingError, NotSent
from tasks.guarding import guarded, in_thread, is_retryable

PERSON = "canary-7f3a@example.org"


def test_an_error_of_ours_gets_out_unchanged():
    with pytest.raises(InputError, match="there is no audience"), guarded():
        raise InputError("there is no audience 'x'")


def test_an_error_nobody_foresaw_says_its_type_and_place_only():
    with pytest.raises(MessagingError) as out, guarded():
        raise ValueError(PERSON)

    assert type(out.value) is MessagingError
    assert str(out.value).startswith("unexpected ValueError at test_guarding.py:")
    assert out.value.__cause__ is None
    assert out.value.__suppress_context__  # or a traceback, which is logged, would quote it


async def test_an_error_of_the_database_does_not_quote_its_rows(ledger: Engine):
    def fail() -> None:
        with ledger.begin() as connection:
            connection.execute(text("SELECT CAST(:person AS int)"), {"person": PERSON})

    with pytest.raises(DatabaseError) as out:
        await in_thread(fail)

    assert PERSON not in str(out.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotSent("the server is away"), True),
        (DatabaseError("the ledger is away"), True),
        (AccountError("refused"), False),
        (InputError("wrong"), False),
        (MessagingError("unexpected"), False),
        (ValueError("not ours"), False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_only_what_can_succeed_unchanged_is_tried_again(*, error: Exception, expected: bool):
    assert await is_retryable(None, None, await exception_to_failed_state(error)) is expected
