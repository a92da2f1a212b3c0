"""One of several processes that send a campaign: the flow of a worker, started when all are ready.

python shares.py JOB.json prints what it took as JSON.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from ours import cpu_seconds


async def main(job: dict) -> None:
    """Import all there is to import, wait for the others, and send a share."""
    from deployments import environment

    environment.apply()
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    from flows.send_batches import send_batches
    from schemas.campaign import SendRequest

    await asyncio.to_thread(wait_for_the_others, Path(job["ready"]), Path(job["go"]))
    started, cpu = time.perf_counter(), cpu_seconds()
    await send_batches(SendRequest(campaign_id=job["campaign_id"], shard=job["shard"]))
    print(json.dumps({"seconds": time.perf_counter() - started, "cpu_s": cpu_seconds() - cpu}))


def wait_for_the_others(ready: Path, go: Path) -> None:
    """Say that this process may begin, and return when it is to."""
    ready.touch()
    while not go.exists():
        time.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
