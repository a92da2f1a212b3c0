"""The words for mail that comes back: what it means for a recipient, why, and what to do about it."""

from enum import StrEnum


class BounceClass(StrEnum):
    """What a returned mail means for one recipient."""

    HARD = "hard"  # nobody is reached at this address
    SOFT = "soft"  # not now: full, away, unreachable, or nobody knows why
    BLOCK = "block"  # refused because of us or of what we wrote, never because of the recipient
    COMPLAINT = "complaint"  # a report of a feedback loop (RFC 5965)
    AUTO_REPLY = "auto-reply"
    CHALLENGE = "challenge"  # the recipient's system wants the sender to prove to be a person
    DELIVERED = "delivered"  # a report of success
    NOT_A_BOUNCE = "not a bounce"


class BounceReason(StrEnum):
    """Why a mail came back."""

    USER_UNKNOWN = "user unknown"
    HOST_UNKNOWN = "host unknown"
    MOVED = "moved"
    BAD_ADDRESS = "bad address"
    NO_MAIL_ACCEPTED = "no mail accepted"  # null MX (RFC 7505) and the like
    INACTIVE = "inactive"  # disabled, suspended, locked
    FILTERED = "filtered"  # by the recipient's own rules
    MAILBOX_FULL = "mailbox full"
    TOO_BIG = "too big"
    EXPIRED = "expired"
    NETWORK = "network"
    SYSTEM = "system"
    SYSTEM_FULL = "system full"
    MAILER = "mailer"  # a program behind the address failed
    GREYLISTED = "greylisted"
    TOO_MANY = "too many"  # connections, recipients, messages in a while
    UNKNOWN = "unknown"
    BLOCKED = "blocked"  # a list or rule names our host
    REPUTATION = "reputation"
    REVERSE_DNS = "reverse DNS"
    AUTHENTICATION = "authentication"  # SPF, DKIM, DMARC
    SENDER_REFUSED = "sender refused"
    POLICY = "policy"
    SECURITY = "security"
    SPAM = "spam"
    VIRUS = "virus"
    RELAYING = "relaying"
    CONTENT = "content"
    NOT_COMPLIANT = "not compliant"  # breaks RFC 5322 in the receiver's eyes
    PROTOCOL = "protocol"
    TLS = "TLS"
    ABUSE = "abuse"  # "this is spam"
    FRAUD = "fraud"
    OPT_OUT = "opt-out"
    NOT_SPAM = "not spam"
    AUTHENTICATION_REPORT = "authentication report"  # RFC 6591: for the operator, not a recipient's wish
    ANSWER = "answer"  # out of office, receipt of a ticket
    CHALLENGED = "challenged"
    SUCCESS = "success"


class Suppress(StrEnum):
    """When a reason is enough to stop writing to an address."""

    AT_ONCE = "at once"
    SECOND_TIME = "second time"
    WHEN_IT_LASTS = "when it lasts"  # several bounces over weeks, no success between
    NEVER = "never"
