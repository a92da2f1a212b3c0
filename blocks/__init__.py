"""Accounts that an operator picks in the Prefect UI.

Only concrete kinds are visible here: `prefect block register -m blocks` registers what it sees.
"""

from blocks.smtp_account import SmtpAccount

__all__ = ["SmtpAccount"]
