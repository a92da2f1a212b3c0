"""Accounts that an operator picks in the Prefect UI."""
