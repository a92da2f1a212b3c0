"""django-post-office: queue everything, then send it as its management command does.

python send.py JOB.json prints what it took as JSON; the interpreter is one that has django-post-office.
"""

import json
import resource
import sys
import time
from pathlib import Path


def main(job: dict) -> None:
    """Queue and send once, on an empty database."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    settings.configure(
        INSTALLED_APPS=["post_office"],
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **job["database"]}},
        EMAIL_BACKEND="post_office.EmailBackend",
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=job["port"],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        # One connection per thread; batches of 100 and a log row per message, as shipped.
        POST_OFFICE={"THREADS_PER_PROCESS": job["connections"]},
        USE_TZ=True,
        LOGGING_CONFIG=None,
    )
    django.setup()
    call_command("migrate", verbosity=0)
    started = time.perf_counter()
    queue(job)
    queued = time.perf_counter()
    cpu = cpu_seconds()
    call_command("send_queued_mail", lockfile=job["lock_file"])
    took = {
        "seconds": time.perf_counter() - queued,
        "cpu_s": cpu_seconds() - cpu,
        "before_s": queued - started,
    }
    print(json.dumps(took))


def queue(job: dict) -> None:
    """Put one email per person into the queue, rendered on the way, as `mail.send_many` does."""
    from post_office import mail
    from post_office.models import EmailTemplate

    template = EmailTemplate.objects.create(
        name="spring",
        subject=job["templates"]["subject"],
        content=job["templates"]["text"],
        html_content=job["templates"]["html"],
    )
    sender = f"{job['sender_name']} <{job['sender_address']}>"
    with Path(job["people"]).open(encoding="utf-8") as people:
        waiting = []
        for person in map(json.loads, people):
            waiting.append(
                {
                    "recipients": f"{person['name']} <{person['email']}>",
                    "sender": sender,
                    "template": template,
                    "context": person,
                    "headers": {
                        "List-Id": f"<{job['list_id']}>",
                        "List-Unsubscribe": f"<{person['unsubscribe_url']}>",
                        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                    },
                }
            )
            if len(waiting) == 1_000:
                mail.send_many(waiting)
                waiting = []
        mail.send_many(waiting)


def cpu_seconds() -> float:
    """Return the CPU time this process has used, all its threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
