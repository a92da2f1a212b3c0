"""The public pages and webhooks: an ASGI application that runs without Prefect."""
