"""What the library says of an error decides, by the table, what becomes of the recipient."""

import pickle

import pytest

from messaging.channels.whatsapp_web_replies import ENDINGS, answer, ended
from messaging.errors import AccountError, MessagingError, NotSent, Unknown
from schemas.states import Outcome

NUMBER = "447400123456"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("server returned error 429", AccountError),
        ("server returned error 463", AccountError),
        ("failed to get device list: info query returned status 429: rate-overlimit", AccountError),
        ("the store doesn't contain a device JID", AccountError),
        ("websocket not connected", NotSent),
        ("failed to send message node: websocket not connected", NotSent),
        ("failed to dial whatsapp web websocket: connection refused", NotSent),
        (
            f"failed to get device list: failed to send usync query for {NUMBER}: info query timed out",
            NotSent,
        ),
        ("timed out waiting for message send response", Unknown),
        ("websocket disconnected before message send returned response", Unknown),
        ("failed to send message node: write tcp: broken pipe", Unknown),
        (f"something nobody has seen about {NUMBER}", Unknown),
    ],
)
def test_what_is_no_answer_is_an_error_without_a_number(text: str, kind: type[MessagingError]):
    with pytest.raises(kind) as failure:
        answer(text, "shop")

    assert NUMBER not in str(failure.value)


@pytest.mark.parametrize(
    ("text", "outcome", "code", "who"),
    [
        ("server returned error 400", Outcome.REJECTED, 400, ""),
        ("server returned error 404", Outcome.REJECTED, 404, "nobody"),
        ("server returned error 503", Outcome.DEFERRED, 503, "everybody"),
        (
            "failed to get group members: you're not participating in that group",
            Outcome.REJECTED, None, "",
        ),
        ("failed to get group members: that group does not exist", Outcome.REJECTED, None, "nobody"),
        (f"no LID found for {NUMBER} from server", Outcome.DEFERRED, None, ""),
        ("info query returned status 500: internal-server-error", Outcome.DEFERRED, None, ""),
    ],
)  # fmt: skip
def test_what_is_an_answer_is_a_receipt(text: str, outcome: Outcome, code: int | None, who: str):
    receipt = answer(text, "shop")

    assert (receipt.outcome, receipt.code, receipt.reply) == (outcome, code, text)
    assert (receipt.throttled, receipt.unreachable) == (who == "everybody", who == "nobody")


@pytest.mark.parametrize("why", ENDINGS)
def test_every_ending_is_one_sentence_that_survives_pickling(why: str):
    error = ended(why, "shop", "2026-11-22 10:00 UTC", "blocked by users")

    assert not set("{}") & set(str(error))
    assert str(error)[0].islower() or str(error).startswith("WhatsApp")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own
