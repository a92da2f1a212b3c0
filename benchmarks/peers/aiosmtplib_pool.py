"""A pool of plain aiosmtplib connections that sends messages built beforehand.

python aiosmtplib_pool.py JOB.json prints what it took as JSON.
"""

import asyncio
import json
import resource
import sys
import time
from email.message import EmailMessage
from email.utils import formataddr, formatdate, make_msgid
from pathlib import Path

import aiosmtplib
import jinja2


def main(job: dict) -> None:
    """Build all messages, then send them."""
    with Path(job["people"]).open(encoding="utf-8") as people:
        build = builder(job)
        messages = [(person["email"], build(person)) for person in map(json.loads, people)]
    started, cpu = time.perf_counter(), cpu_seconds()
    asyncio.run(send_all(job, messages))
    print(json.dumps({"seconds": time.perf_counter() - started, "cpu_s": cpu_seconds() - cpu}))


async def send_all(job: dict, messages: list[tuple[str, bytes]]) -> None:
    """Send over some connections, each the next message that is left."""
    left = iter(messages)

    async def send() -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=job["port"], start_tls=False) as connection:
            for address, content in left:
                await connection.sendmail(job["sender_address"], [address], content)

    await asyncio.gather(*(send() for _ in range(job["connections"])))


def builder(job: dict):
    """Return what makes one person's message, as Python's own library does."""
    plain, escaping = jinja2.Environment(autoescape=False), jinja2.Environment(autoescape=True)  # noqa: S701
    subject = plain.from_string(job["templates"]["subject"])
    text = plain.from_string(job["templates"]["text"])
    html = escaping.from_string(job["templates"]["html"])

    def build(person: dict[str, str]) -> bytes:
        message = EmailMessage()
        message["From"] = formataddr((job["sender_name"], job["sender_address"]))
        message["To"] = f"{person['name']} <{person['email']}>"
        message["Subject"] = subject.render(person)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=job["sender_address"].partition("@")[2])
        message["List-Id"] = f"<{job['list_id']}>"
        message["List-Unsubscribe"] = f"<{person['unsubscribe_url']}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        message.set_content(text.render(person))
        message.add_alternative(html.render(person), subtype="html")
        return message.as_bytes(policy=message.policy.clone(linesep="\r\n", max_line_length=998))

    return build


def cpu_seconds() -> float:
    """Return the CPU time this process has used, all its threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
