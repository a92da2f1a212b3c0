"""How a message looks to SpamAssassin, by the rules of this machine alone."""

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
from typing import Final

from messaging.settings import settings
from schemas.preflight import Line, Verdict

WARNED_OF: Final = 3.0
REQUIRED: Final = 5.0
"""Points from which SpamAssassin, as it is delivered, calls a message spam."""
MOST_SECONDS: Final = 60.0
_MOST_NAMED: Final = 6
_POINTS = re.compile(r"^Content analysis details:\s*\((-?[0-9.]+) points", re.MULTILINE)
_RULE = re.compile(r"^\s*(-?[0-9]+(?:\.[0-9])?) ([A-Z][A-Z0-9_]+) ", re.MULTILINE)


async def judge_spam(content: bytes) -> Line:
    """Have one message scored: offline (-L), with nothing learnt and nothing kept."""
    program = shutil.which(settings().spamassassin) if settings().spamassassin else None
    if program is None:
        do = "install spamassassin" if settings().spamassassin else ""
        return _line(Verdict.UNKNOWN, "not looked at: SpamAssassin is not here", do)
    try:
        report = await _report(program, content)
    except TimeoutError:
        return _line(Verdict.UNKNOWN, f"SpamAssassin did not answer within {MOST_SECONDS:.0f} seconds")
    except OSError as error:
        return _line(Verdict.UNKNOWN, f"SpamAssassin could not be started ({error.strerror})")
    details = _POINTS.search(report)
    if details is None:
        return _line(Verdict.UNKNOWN, "SpamAssassin gave no score", "try it: spamassassin --lint")
    return _judged(float(details[1]), report[details.end() :])


def _judged(points: float, report: str) -> Line:
    scores = {rule: float(score) for score, rule in _RULE.findall(report)}  # of spam it is there twice
    hits = sorted((rule for rule in scores if scores[rule] > 0), key=lambda rule: -scores[rule])
    named = ", ".join(f"{rule} {scores[rule]:g}" for rule in hits[:_MOST_NAMED])
    said = f"SpamAssassin gives it {points} points; {REQUIRED} are spam" + (f" ({named})" if named else "")
    if points < WARNED_OF:
        return _line(Verdict.OK, said)
    return _line(Verdict.WARN, said, "change what the rules named speak of, and check again")


async def _report(program: str, content: bytes) -> str:
    with tempfile.TemporaryDirectory(prefix="outflow-spam-") as home:  # where it would keep what it learnt
        process = await asyncio.create_subprocess_exec(
            program,
            "--local",
            "--test-mode",
            "--nocreate-prefs",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "HOME": home, "LC_ALL": "C"},
        )
        try:
            async with asyncio.timeout(MOST_SECONDS):
                report, _ = await process.communicate(content)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    return report.decode("utf-8", "replace")


def _line(verdict: Verdict, said: str, do: str = "") -> Line:
    return Line(what="spam score", verdict=verdict, said=said, do=do)
