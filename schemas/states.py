"""The states and outcomes that the ledger, the code and the UI share."""

from enum import StrEnum


class Channel(StrEnum):
    """How a message reaches a person."""

    EMAIL = "email"
    WHATSAPP = "whatsapp"


class CampaignState(StrEnum):
    """Where a campaign stands; `finished` only when nothing is queued or dispatched."""

    DRAFT = "draft"  # waits for a person's approval
    SCHEDULED = "scheduled"  # waits for its time
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class AttemptState(StrEnum):
    """Where our one intention to reach one recipient stands."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """A provider's definite answer to one message."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REJECTED = "rejected"


class SubscriptionStatus(StrEnum):
    """What a contact agreed to."""

    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    PENDING = "pending"


class ImportState(StrEnum):
    """What became of a file."""

    LOADED = "loaded"
    STOPPED = "stopped"  # by the audience's contract; its refused rows are kept
    REPEATED = "repeated"  # the bytes of an earlier import under another name or date: nothing was done


class SuppressionReason(StrEnum):
    """Why an address must not be used."""

    UNSUBSCRIBED = "unsubscribed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    MANUAL = "manual"


class EventKind(StrEnum):
    """What became of an attempt after the provider's answer, or what was decided about it or its campaign."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    OPENED = "opened"
    CLICKED = "clicked"
    UNSUBSCRIBED = "unsubscribed"
    SENT = "sent"  # the provider says that it has taken the message
    DELAYED = "delayed"  # still trying; never counts
    FAILED = "failed"  # given up by the provider, for no fault of the recipient's address
    AUTO_REPLIED = "auto-replied"
    CHALLENGED = "challenged"
    DRAFTED = "drafted"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    STARTED = "started"
    FINISHED = "finished"
    REQUEUED = "requeued"
    RESOLVED = "resolved"
    PAUSED = "paused"
    RESUMED = "resumed"
    CANCELLED = "cancelled"
    PACED = "paced"
    FELL_BACK = "fell_back"  # not reached on one account, hence tried on the next


class AlertKind(StrEnum):
    """What people are told of without having to look."""

    FINISHED = "finished"
    PAUSED = "paused"
    LATE = "late"
    SKIPPED = "skipped"  # an edition whose time came while the one before was still being sent
    APPROVAL = "approval"  # a campaign waits for it
    CRASHED = "crashed"
    ACCOUNT_PAUSED = "account paused"


class ScheduleState(StrEnum):
    """Where a schedule stands."""

    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"  # its rule has no further time


class DomainVerdict(StrEnum):
    """Whether the domain of an address takes mail, as DNS says."""

    TAKES_MAIL = "takes mail"
    NO_SUCH_DOMAIN = "no such domain"
    NO_MAIL_SERVER = "no mail server"  # neither MX nor an address (RFC 5321, 5.1)
    TAKES_NO_MAIL = "takes no mail"  # null MX (RFC 7505)
    UNKNOWN = "unknown"  # no answer, or a fault: nobody is left out for it


class AccountState(StrEnum):
    """Where an account's connection to its provider stands; the middle ones are WhatsApp Web's."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    PAUSED = "paused"
    INITIALIZING = "initializing"
    SCAN_QR = "scan QR"
    AUTHENTICATED = "authenticated"
    READY = "ready"
    AUTHENTICATION_FAILED = "authentication failed"
    LOGGED_OUT = "logged out"
    BANNED = "banned"
    WORKER_GONE = "worker gone"  # nobody has said anything for long
