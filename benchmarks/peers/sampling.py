"""Where a process spends its CPU time, by the part of the project, without slowing it down.

The kernel's timer of used CPU time interrupts the main thread, and what that was doing is counted. How much
the other threads used is known exactly: they do the ledger's database work.
"""

import signal
import time
from collections import Counter
from types import FrameType

INTERVAL = 0.001  # seconds of CPU time; the kernel rounds it up to its own tick, 4 ms at most

CAMPAIGN = {  # modules of messaging/campaign; what is not named here is the send loop
    "rendering": "rendering templates skeleton bodies headers merge_fields pieces expressions plain_text",
    "limits": "throttle permits provider_groups slowing",
    "ledger": "ledger",
}
SECTIONS = {
    **{f"messaging/campaign/{name}.": part for part, names in CAMPAIGN.items() for name in names.split()},
    "<template>": "rendering",
    "messaging/channels/": "SMTP",
    "messaging/storage/": "ledger",
    "messaging/campaign/": "send loop",
}
OTHER_THREADS = "other threads: the ledger's database work"
LOOP = "event loop"


class Sampler:
    """Counts what the main thread is at."""

    def __init__(self) -> None:
        """Count nothing yet."""
        self._sections: Counter[str] = Counter()
        self._places: Counter[str] = Counter()
        self._used = 0.0, 0.0

    def start(self) -> None:
        """Begin, in the main thread."""
        self._used = time.process_time(), time.thread_time()
        signal.signal(signal.SIGPROF, self._sample)
        signal.siginterrupt(signal.SIGPROF, False)  # noqa: FBT003 - its own signature
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def stop(self) -> dict[str, dict[str, float]]:
        """End, and return the shares of the sections and of the busiest functions."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        before, before_here = self._used
        here = (time.thread_time() - before_here) / (time.process_time() - before)
        samples = max(1, self._sections.total())
        shares = {
            name: {what: here * count / samples for what, count in counted.most_common(40)}
            for name, counted in (("sections", self._sections), ("places", self._places))
        }
        shares["sections"][OTHER_THREADS] = 1 - here
        return {**shares, "samples": {"samples": samples}}

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        section, place = "", ""
        while frame is not None:
            code = frame.f_code
            name = code.co_filename.replace("\\", "/")
            if not place:
                if code.co_name == "select" and name.endswith("selectors.py"):
                    return  # waiting: it was another thread that used the time
                place = f"{'/'.join(name.split('/')[-2:])}:{code.co_qualname}"
            section = next((section for part, section in SECTIONS.items() if part in name), "")
            if section:
                break
            frame = frame.f_back
        section = section or LOOP
        self._sections[section] += 1
        self._places[f"{section}: {place}"] += 1
