"""The words: models that travel between flows, tasks, commands and the Prefect UI."""
