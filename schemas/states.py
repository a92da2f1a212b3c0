"""The states and outcomes that the ledger, the code and the UI share."""

from enum import StrEnum


class Channel(StrEnum):
    """How a message reaches a person."""

    EMAIL = "email"
    WHATSAPP = "whatsapp"


class CampaignState(StrEnum):
    """Where a campaign stands; `finished` only when nothing is queued or dispatched."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
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
    REQUEUED = "requeued"
    RESOLVED = "resolved"
    PAUSED = "paused"
    RESUMED = "resumed"
    CANCELLED = "cancelled"
    PACED = "paced"
    FELL_BACK = "fell_back"  # not reached on one account, hence tried on the next


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
