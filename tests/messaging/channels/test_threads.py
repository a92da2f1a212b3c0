"""Blocking clients in threads: what a cancelled call leaves behind, and when a pool ends."""

import asyncio
import threading

import pytest

from messaging.channels import threads
from messaging.channels.threads import Calls, ThreadedPool
from messaging.errors import NotSent


class Client:
    """Blocks until it is told to answer."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.running = 0

    def runs(self, count: int) -> bool:
        return self.running >= count

    def ask(self, word: str) -> str:
        self.running += 1
        try:
            assert self.may_answer.wait(30)
            return word.upper()
        finally:
            self.running -= 1


class Sender:
    def __init__(self, calls: Calls) -> None:
        self.calls = calls


def a_pool(connections: int = 1) -> ThreadedPool[Sender]:
    return ThreadedPool(connections, Sender)


async def begun(client: Client, count: int = 1) -> None:
    async with asyncio.timeout(20):
        while not client.runs(count):  # noqa: ASYNC110 - it runs in threads
            await asyncio.sleep(0.01)


async def test_calls_of_several_senders_run_at_once():
    client = Client()

    async def borrow(pool: ThreadedPool[Sender]) -> str:
        async with pool.sender() as sender:
            return await sender.calls.run(client.ask, "yes")

    async with a_pool(connections=3) as pool:
        answers = asyncio.gather(*(borrow(pool) for _ in range(3)))
        await begun(client, 3)
        client.may_answer.set()
        assert await answers == ["YES"] * 3


async def test_what_a_call_raises_is_raised():
    async with a_pool() as pool, pool.sender() as sender:
        with pytest.raises(ValueError, match="nope"):
            await sender.calls.run(int, "nope")


async def test_a_question_is_answered_while_all_senders_are_busy():
    client = Client()
    async with a_pool() as pool, pool.sender() as sender:
        busy = asyncio.create_task(sender.calls.run(client.ask, "yes"))
        await begun(client)
        assert await pool.ask(str.upper, "quota") == "QUOTA"
        client.may_answer.set()
        await busy


async def test_a_sender_whose_call_was_cancelled_is_lent_again_when_the_call_has_ended():
    client = Client()
    async with a_pool() as pool:
        async with pool.sender() as first:
            sending = asyncio.create_task(first.calls.run(client.ask, "yes"))
            await begun(client)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), pool.sender():
                pass
        client.may_answer.set()
        async with asyncio.timeout(20), pool.sender() as again:
            assert again is first
            assert client.running == 0


async def test_an_idle_sender_is_lent_before_a_new_one_is_made():
    async with a_pool(connections=2) as pool:
        async with pool.sender() as first:
            pass
        async with pool.sender() as second:
            assert second is first


async def test_a_pool_waits_for_a_call_on_its_way():
    client = Client()
    async with a_pool() as pool, pool.sender() as sender:
        sending = asyncio.create_task(sender.calls.run(client.ask, "yes"))
        await begun(client)
        asyncio.get_running_loop().call_later(0.3, client.may_answer.set)

    assert sending.done()
    assert await sending == "YES"


async def test_a_pool_ends_though_a_call_does_not(monkeypatch):
    monkeypatch.setattr(threads, "CLOSING_SECONDS", 0.1)
    client = Client()
    async with a_pool() as pool, pool.sender() as sender:
        sending = asyncio.create_task(sender.calls.run(client.ask, "yes"))
        await begun(client)

    assert client.running == 1
    client.may_answer.set()
    assert await sending == "YES"


async def test_a_closed_pool_calls_nothing():
    called = []
    async with a_pool() as pool, pool.sender() as sender:
        pass

    with pytest.raises(NotSent, match="closed"):
        await sender.calls.run(called.append, 1)
    assert called == []
