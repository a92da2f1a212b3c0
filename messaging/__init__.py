"""The knowledge: runs and is tested without Prefect."""
