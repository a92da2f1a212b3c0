"""One library call each, with its name, retries and artifact."""

import logging

# Prefect sends what the loggers of PREFECT_LOGGING_EXTRA_LOGGERS emit to the run's page, but leaves their
# level to the root logger's WARNING; a lower root level would let every library talk.
logging.getLogger("messaging").setLevel(logging.INFO)
