"""A queue's block keeps its secrets to itself, finds its region, and says what the queue lacks."""

import asyncio
import json

import pytest
from pydantic import SecretStr, ValidationError

from blocks.ses_queue import SesQueue
from messaging.errors import InputError
from tests.fakes.ses import REGION
from tests.fakes.ses_events import wired

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/outflow"


def queue(**values: object) -> SesQueue:
    usual = {"queue_url": URL, "access_key_id": "AKIA", "secret_access_key": "canary-secret"}
    return SesQueue(**usual | values)


async def test_verifying_says_what_was_met_and_takes_nothing():
    with wired() as wire:
        wire.sqs.send_message(QueueUrl=wire.queue_url, MessageBody="{}")
        own = {"queue_url": wire.queue_url, "region": REGION, "endpoint": wire.endpoint}
        met = [await queue(**own).verify() for _ in range(2)]

    assert met[0] == met[1]
    assert "about 1 messages wait; missing: a redrive policy" in met[0]
    assert "canary" not in met[0]


def test_the_url_names_the_region_and_what_contradicts_it_is_refused():
    found = asyncio.run(queue(connections=6).settings())

    assert (found.region, found.queue, found.connections) == ("eu-west-1", "outflow", 6)
    with pytest.raises(InputError, match="the queue is in eu-west-1"):
        asyncio.run(queue(region="us-east-1").settings())


def test_its_secrets_show_nowhere():
    saved = queue(session_token=SecretStr("canary-token"))

    shown = [repr(saved), str(saved), saved.model_dump_json(), json.dumps(saved.model_dump(mode="json"))]
    shown.append(repr(asyncio.run(saved.settings())))
    assert not any("canary" in text for text in shown)


@pytest.mark.parametrize(
    "values",
    [{"queue_url": "outflow"}, {"endpoint": "localhost"}, {"connections": 1}, {"rest_per_second": 0}],
)
def test_what_can_never_work_is_not_saved(values: dict):
    with pytest.raises(ValidationError):
        queue(**values)


def test_the_form_is_plain_text_boxes_and_hides_secrets():
    fields = SesQueue.model_json_schema()["properties"]

    assert {name for name, field in fields.items() if field.get("format") == "password"} == {
        "secret_access_key", "session_token",
    }  # fmt: skip
    assert not any("anyOf" in field for field in fields.values())
    assert all(field.get("description", "").endswith(".") for field in fields.values())
