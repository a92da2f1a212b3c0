"""What a message says of itself to Amazon SES comes back with what SES reports of it, over SNS and SQS."""

import asyncio
import json

import pytest

from messaging.channels.ses import SesPool
from tests.fakes.ses import FakeSes
from tests.fakes.ses_events import wired
from tests.messaging.channels.ses_provider import a_message, settings


async def marked() -> None:
    return None


@pytest.mark.parametrize("raw", [True, False])
async def test_the_tags_of_a_message_come_back_with_its_events(*, raw: bool):
    with wired(raw=raw) as wire:
        async with FakeSes(on_sent=wire.publish).running() as fake:
            async with SesPool(settings(fake)) as pool, pool.sender() as sender:
                receipts = {
                    recipient: await sender.send(a_message(recipient, token=token, campaign_id=18), marked)
                    for recipient, token in (
                        ("ada@example.org", "a" * 32),
                        ("bounce@simulator.amazonses.com", "b" * 32),
                        ("complaint+x@simulator.amazonses.com", "c" * 32),
                        ("suppressionlist@simulator.amazonses.com", "d" * 32),
                    )
                }
            bodies = [json.loads(body) for body in await asyncio.to_thread(wire.received)]

    events = bodies if raw else [json.loads(body["Message"]) for body in bodies]
    assert sorted((event["mail"]["tags"]["attempt"][0][0], event["eventType"]) for event in events) == [
        ("a", "Delivery"), ("a", "Send"),
        ("b", "Bounce"), ("b", "Send"),
        ("c", "Complaint"), ("c", "Delivery"), ("c", "Send"),
        ("d", "Bounce"), ("d", "Send"),
    ]  # fmt: skip
    assert {event["mail"]["tags"]["campaign"][0] for event in events} == {"18"}
    assert {event["mail"]["messageId"] for event in events} == {
        receipt.provider_message_id for receipt in receipts.values()
    }
    assert all(event["eventType"].lower() in event for event in events)


async def test_without_a_configuration_set_nothing_comes_back():
    with wired() as wire:
        async with FakeSes(on_sent=wire.publish).running() as fake:
            async with SesPool(settings(fake, configuration_set=None)) as pool, pool.sender() as sender:
                await sender.send(a_message(), marked)
            assert await asyncio.to_thread(wire.received) == []
