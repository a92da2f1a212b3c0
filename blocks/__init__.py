"""Accounts that an operator picks in the Prefect UI.

Only concrete kinds are visible here: `prefect block register -m blocks` registers what it sees.
"""

from blocks.alert_target import AlertTarget
from blocks.gmail_account import GmailAccount
from blocks.imap_mailbox import ImapMailbox
from blocks.ses_account import SesAccount
from blocks.ses_queue import SesQueue
from blocks.smtp_account import SmtpAccount
from blocks.whatsapp_cloud_account import WhatsAppCloudAccount
from blocks.whatsapp_web_account import WhatsAppWebAccount

__all__ = [
    "AlertTarget",
    "GmailAccount",
    "ImapMailbox",
    "SesAccount",
    "SesQueue",
    "SmtpAccount",
    "WhatsAppCloudAccount",
    "WhatsAppWebAccount",
]
