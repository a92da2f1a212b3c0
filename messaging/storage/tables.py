"""The ledger's tables (SQLAlchemy Core, PostgreSQL only).

A new column is a change here plus a migration; `tests/messaging/storage` compares the two.
Identifiers never come from files: a file's own columns live in `contacts.attributes`.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from schemas.states import (
    AccountState,
    AlertKind,
    AttemptState,
    CampaignState,
    Channel,
    DomainVerdict,
    EventKind,
    ImportState,
    ScheduleState,
    SubscriptionStatus,
    SuppressionReason,
)

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def _one_of(column: str, words: type[StrEnum]) -> CheckConstraint:
    """Allow only the words of an enum: text and a check migrate more easily than a PostgreSQL enum."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _id() -> Column[int]:
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


def _time(name: str, *, now: bool = False) -> Column[datetime]:
    if now:
        return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())
    return Column(name, DateTime(timezone=True))


contacts = Table(
    "contacts",
    metadata,
    _id(),
    # Identity: the e-mail address in comparable form, else the phone number.
    Column("email_key", Text, unique=True),
    Column("email", Text),  # as given, for sending
    Column("phone", Text),  # E.164
    Column("phone_type", Text),  # mobile, fixed, ...
    Column("phone_region", Text),  # ISO 3166 alpha-2
    Column("name", Text),
    Column("country", Text),  # ISO 3166 alpha-2
    Column("language", Text),  # BCP 47
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("status", Text, nullable=False, server_default=SubscriptionStatus.SUBSCRIBED),
    # Why this person may be written to; without a source no campaign does.
    Column("consent_source", Text),
    Column("consent_text", Text),  # the wording that was agreed to
    _time("consent_at"),
    Column("time_zone", Text),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    _one_of("status", SubscriptionStatus),
    CheckConstraint("email_key IS NOT NULL OR phone IS NOT NULL", name="identity"),
    CheckConstraint("(email_key IS NULL) = (email IS NULL)", name="email"),
    Index("contacts_phone_key", "phone", unique=True, postgresql_where=text("email_key IS NULL")),
)

audiences = Table(
    "audiences",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("spec", JSONB),  # schemas.audience.AudienceSpec; null: a list with the default contract
    _time("created_at", now=True),
)

imports = Table(
    "imports",
    metadata,
    _id(),
    Column("audience_id", BigInteger, ForeignKey("audiences.id"), nullable=False),
    Column("state", Text, nullable=False, server_default=ImportState.LOADED),
    Column("file_name", Text, nullable=False),
    Column("source", Text, nullable=False, server_default=""),  # the file's place and version, when watched
    Column("sha256", Text, nullable=False),
    Column("request", JSONB),  # what was asked
    Column("read_as", JSONB),  # format, encoding, notes
    Column("columns", JSONB, nullable=False, server_default=text("'[]'::jsonb")),  # ReadColumn
    Column("rows", Integer, nullable=False, server_default=text("0")),
    Column("imported", Integer, nullable=False, server_default=text("0")),
    Column("new_contacts", Integer),
    Column("refused", Integer, nullable=False, server_default=text("0")),
    Column("duplicates", Integer, nullable=False, server_default=text("0")),
    Column("without_consent", Integer),
    Column("warnings", JSONB),  # schemas.contacts.Warned
    Column("summary", JSONB),  # counts of the file as a whole, to hold the next one against
    Column("contract", JSONB),  # schemas.contract.ContractResult; null: it was not asked
    Column("seconds", Double),
    _time("created_at", now=True),
    _one_of("state", ImportState),
    Index("imports_audience_id_idx", "audience_id"),
)

# No foreign keys: they would double the time of a large merge (docs/decisions/0011).  Whoever deletes
# contacts or audiences deletes their members.
audience_members = Table(
    "audience_members",
    metadata,
    Column("audience_id", BigInteger, primary_key=True),
    Column("contact_id", BigInteger, primary_key=True),
    Column("import_id", BigInteger),
    _time("added_at", now=True),
)

refused_rows = Table(
    "refused_rows",
    metadata,
    Column("import_id", BigInteger, ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True),
    Column("row_number", Integer, primary_key=True),  # as a spreadsheet counts: the header is row 1
    Column("reason", Text, nullable=False),
    Column("cells", JSONB, nullable=False),  # the row as it stood in the file, by column name
)

suppressions = Table(
    "suppressions",
    metadata,
    _id(),
    Column("channel", Text, nullable=False),
    Column("address_key", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("source", Text, nullable=False),
    _time("created_at", now=True),
    _time("expires_at"),
    _one_of("channel", Channel),
    _one_of("reason", SuppressionReason),
    Column("lifted_by", Text),  # the person who ended it at `expires_at`
    _time("given_back_at"),  # when an earlier one ended: what is older counts no more
    UniqueConstraint("channel", "address_key"),
)

# Who wants no more of one audience, but may be written to otherwise.  Outlives memberships, so that an
# import never undoes it.
audience_opt_outs = Table(
    "audience_opt_outs",
    metadata,
    Column("audience_id", BigInteger, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("address_key", Text, primary_key=True),
    Column("source", Text, nullable=False),
    _time("created_at", now=True),
    _one_of("channel", Channel),
)

# What is sent again and again: each time is a campaign of its own, an edition.
schedules = Table(
    "schedules",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("spec", JSONB, nullable=False),  # schemas.schedule.ScheduleSpec, templates included
    Column("state", Text, nullable=False, server_default=ScheduleState.ACTIVE),
    Column("state_reason", Text),
    _time("next_at"),  # null: there is no further time
    _time("created_at", now=True),
    _one_of("state", ScheduleState),
)

campaigns = Table(
    "campaigns",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("spec", JSONB, nullable=False),  # schemas.campaign.CampaignSpec, templates included
    Column("audience_id", BigInteger, ForeignKey("audiences.id")),  # null: for groups of WhatsApp alone
    Column("state", Text, nullable=False),
    Column("state_reason", Text),
    _time("due_at"),  # when it is to start; null: it was launched at once
    # The definition that it is an edition of, and the time that the edition is for.
    Column("schedule_id", BigInteger, ForeignKey("schedules.id", ondelete="SET NULL")),
    _time("scheduled_for"),
    Column("starts", SmallInteger, nullable=False, server_default=text("0")),  # runs started for it
    Column(
        "excluded", JSONB, nullable=False, server_default=text("'{}'::jsonb")
    ),  # reason -> members left out
    _time("planned_at"),
    _time("finished_at"),
    _one_of("state", CampaignState),
    UniqueConstraint("schedule_id", "scheduled_for"),
    Index(
        "campaigns_unfinished_idx",
        "state",
        postgresql_where=text("state NOT IN ('finished', 'cancelled')"),
    ),
)

# As they were when the campaign was planned: workers run elsewhere, and files change.
campaign_files = Table(
    "campaign_files",
    metadata,
    Column("campaign_id", BigInteger, ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True),
    Column("position", SmallInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("sha256", Text, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    _id(),
    Column("campaign_id", BigInteger, ForeignKey("campaigns.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    # Which of the campaign's accounts sends it: 0 its own, then those to fall back to.
    Column("leg", SmallInteger, nullable=False, server_default=text("0")),
    # Of recipients in one time zone, when they are written to at their own time; else null.
    Column("time_zone", Text),
    _time("not_before"),
    # The lease: who sends this batch now.  Every change of an attempt is fenced by owner and epoch.
    Column("lease_owner", Text),
    Column("lease_epoch", Integer, nullable=False, server_default=text("0")),
    _time("lease_expires_at"),
    UniqueConstraint("campaign_id", "number"),
    # fillfactor 50 (in the migration): heartbeats rewrite these rows all the time.
)

# Processes that send a campaign now, each a flow run or a command.
campaign_runs = Table(
    "campaign_runs",
    metadata,
    _id(),
    Column("campaign_id", BigInteger, ForeignKey("campaigns.id", ondelete="CASCADE"), nullable=False),
    Column("owner", Text, nullable=False),  # machine and process
    Column("flow_run_id", Uuid),
    _time("started_at", now=True),
    _time("seen_at", now=True),
    _time("ended_at"),
    Column("ended_as", Text),  # null: it has not said; else done, stopped, failed, vanished
    Index("campaign_runs_open_idx", "campaign_id", postgresql_where=text("ended_at IS NULL")),
)

# What people are told of: kept until it has reached them.
alerts = Table(
    "alerts",
    metadata,
    _id(),
    Column("kind", Text, nullable=False),
    Column("campaign_id", BigInteger, ForeignKey("campaigns.id", ondelete="CASCADE")),
    Column("account", Text),
    Column("said", Text, nullable=False),  # names no recipient
    Column("link", Text),
    _time("raised_at", now=True),
    _time("told_at"),
    Column("tries", SmallInteger, nullable=False, server_default=text("0")),
    Column("told", JSONB, nullable=False, server_default="[]"),  # names of the targets that took it
    _one_of("kind", AlertKind),
    Index("alerts_untold_idx", "id", postgresql_where=text("told_at IS NULL")),
)

# Which database this ledger lives in: a copy of it restored elsewhere must not send what the original sends.
installation = Table(
    "installation",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),  # 1
    Column("system_identifier", Text, nullable=False),  # of the PostgreSQL cluster
    Column("database_oid", BigInteger, nullable=False),
    _time("noted_at", now=True),
    CheckConstraint("id = 1", name="id"),
)

attempts = Table(
    "attempts",
    metadata,
    _id(),
    Column("campaign_id", BigInteger, ForeignKey("campaigns.id", ondelete="CASCADE"), nullable=False),
    Column("batch_id", BigInteger, ForeignKey("batches.id", ondelete="CASCADE"), nullable=False),
    Column("contact_id", BigInteger, ForeignKey("contacts.id", ondelete="SET NULL")),
    Column("address_key", Text, nullable=False),
    Column("address", Text, nullable=False),
    # Opaque name of this attempt in links and envelope senders; 122 random bits, no address inside.
    Column("token", Uuid, nullable=False, server_default=func.gen_random_uuid()),
    Column("state", Text, nullable=False, server_default=AttemptState.QUEUED),
    Column(
        "tries", SmallInteger, nullable=False, server_default=text("0")
    ),  # definite "not now" answers about this recipient so far
    Column(
        "delays", SmallInteger, nullable=False, server_default=text("0")
    ),  # turns put off for a reason of the server's or of ours
    _time("not_before"),
    _time("dispatched_at"),
    _time("answered_at"),
    Column("message_id", Text),  # the Message-ID header; empty on WhatsApp
    Column("provider_message_id", Text),
    Column("code", SmallInteger),  # the SMTP reply code, or the HTTP status
    Column("status", Text),  # RFC 3463 enhanced status, as in 5.1.1
    Column("reply", Text),  # the provider's words
    Column("reason", Text),  # ours, when it was not the provider who refused
    # Of a refusal: the address leads to nobody, so that the next account may be tried.
    Column("unreachable", Boolean, nullable=False, server_default=text("false")),
    _one_of("state", AttemptState),
    # The idempotency key: one recipient is reached once per campaign.
    UniqueConstraint("campaign_id", "address_key"),
    Index("attempts_batch_id_id_idx", "batch_id", "id"),
    Index("attempts_contact_id_idx", "contact_id"),
    Index("attempts_token_idx", "token"),  # never changed, so that it costs a change of state nothing
    Index("attempts_unreachable_idx", "campaign_id", postgresql_where=text("unreachable")),
    # `state` is in no index and pages keep room (fillfactor 45, in the migrations), so that each change of
    # state is a cheap in-page (HOT) update.
)

events = Table(
    "events",
    metadata,
    _id(),
    Column("attempt_id", BigInteger, ForeignKey("attempts.id", ondelete="CASCADE")),
    # Of what was decided about a campaign as a whole; then there is no attempt.
    Column("campaign_id", BigInteger, ForeignKey("campaigns.id", ondelete="CASCADE")),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),  # mailbox, queue or person that told us
    Column("source_id", Text, nullable=False),  # its own name for the event: the same event is stored once
    Column("details", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    _time("occurred_at", now=True),
    _time("received_at", now=True),
    _one_of("kind", EventKind),
    UniqueConstraint("source", "source_id"),
    Index("events_attempt_id_idx", "attempt_id"),
    Index("events_campaign_id_idx", "campaign_id", postgresql_where=text("campaign_id IS NOT NULL")),
    Index("events_unmatched_idx", "id", postgresql_where=text("attempt_id IS NULL AND campaign_id IS NULL")),
)

# What was read from mailboxes: the evidence itself, so that better rules can read it again.
returned_mails = Table(
    "returned_mails",
    metadata,
    _id(),
    Column("mailbox", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False, unique=True),  # of the bytes as they were read
    Column("size", Integer, nullable=False),  # bytes in the mailbox; `raw` may hold fewer
    Column("raw", LargeBinary, nullable=False),  # compressed by zlib
    Column("findings", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("notes", JSONB, nullable=False, server_default=text("'[]'::jsonb")),  # what was not read, and why
    _time("received_at", now=True),
    Index("returned_mails_received_at_idx", "received_at"),
)

mailbox_positions = Table(
    "mailbox_positions",
    metadata,
    Column("mailbox", Text, primary_key=True),  # imap-mailbox/bounces
    Column("folder", Text, primary_key=True),
    Column("uid_validity", BigInteger, nullable=False),
    Column("last_uid", BigInteger, nullable=False),  # all up to it was read
)

# Each reading of a mailbox or queue, also one that found nothing or could not begin.
feedback_runs = Table(
    "feedback_runs",
    metadata,
    _id(),
    Column("source", Text, nullable=False),  # imap-mailbox/bounces, ses-queue/events
    _time("started_at", now=True),
    _time("finished_at"),
    Column("seen", Integer, nullable=False, server_default=text("0")),  # mails or queue messages
    Column("recorded", Integer, nullable=False, server_default=text("0")),  # new events
    Column("repeated", Integer, nullable=False, server_default=text("0")),  # events known before
    Column("unmatched", Integer, nullable=False, server_default=text("0")),  # new ones of no attempt of ours
    Column("suppressed", Integer, nullable=False, server_default=text("0")),  # addresses
    Column("set_aside", Integer, nullable=False, server_default=text("0")),  # could not be read
    Column("problem", Text),  # why it could not go on; names no person
    Index("feedback_runs_source_idx", "source", "id"),
)

# The keys that links are signed with; the newest signs, all verify.
link_keys = Table(
    "link_keys",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False),
    _time("created_at", now=True),
    CheckConstraint("id BETWEEN 1 AND 255", name="id"),
)

# Topics of Amazon SNS that post to us; only what an operator has confirmed is listened to.
sns_topics = Table(
    "sns_topics",
    metadata,
    Column("topic", Text, primary_key=True),  # its ARN
    Column("subscribe_url", Text, nullable=False),  # its request, to be confirmed
    _time("asked_at", now=True),
    _time("confirmed_at"),
)

# What DNS said of domains of addresses, kept for some days.
mail_domains = Table(
    "mail_domains",
    metadata,
    Column("domain", Text, primary_key=True),  # in ASCII
    Column("verdict", Text, nullable=False),  # schemas.states.DomainVerdict
    _time("checked_at", now=True),
    _one_of("verdict", DomainVerdict),
)

limits = Table(
    "limits",
    metadata,
    # What a person set: account:smtp-account/main, or domain:smtp-account/main:gmail.com.
    Column("key", Text, primary_key=True),
    Column("rate", Double),  # messages per second
    Column("per_day", Integer),  # in any 24 hours
    # What the provider allows, as it said last; the smaller one counts.
    Column("quota_rate", Double),
    Column("quota_per_day", Integer),
)

throttles = Table(
    "throttles",
    metadata,
    Column("key", Text, primary_key=True),  # as in `limits`, or campaign:18
    _time("next_at", now=True),  # GCRA: when the next permit is due, by the database's clock
    _time("began_at"),  # the first message of a warm-up
    # The provider asked us to slow down: from `slowed_to` messages per second back to `usual_rate`.
    Column("slowed_to", Double),
    Column("usual_rate", Double),
    _time("slowed_at"),
    _time("pause_until"),
    Column("reason", Text),
    # The circuit breaker of an account.
    Column("failures", SmallInteger, nullable=False, server_default=text("0")),  # in a row
    _time("open_until"),
    Column("open_seconds", Double),
    Column("open_reason", Text),
    Column("trial_owner", Text),  # whose one message tries whether it works again
    _time("trial_until"),
)

permit_holders = Table(
    "permit_holders",
    metadata,
    Column("owner", Text, primary_key=True),  # a campaign in one process
    Column("account", Text, nullable=False),
    Column("campaign_id", BigInteger, nullable=False),
    Column("wishes", JSONB, nullable=False),  # provider group -> how many permits, null for any number
    Column("rate", Double, nullable=False),  # its answers per second
    _time("seen_at", now=True),
)

permit_frames = Table(
    "permit_frames",
    metadata,
    Column("account", Text, primary_key=True),
    Column("frame", BigInteger, primary_key=True),  # half seconds since 1970
    Column("permits", JSONB, nullable=False),  # owner -> provider group -> permits
)

sent_minutes = Table(
    "sent_minutes",
    metadata,
    Column("key", Text, primary_key=True),  # as in `throttles`, of what has a daily cap
    Column("minute", DateTime(timezone=True), primary_key=True),
    Column("n", Integer, nullable=False),  # messages sent in it, and those reserved
)

# Whom the daily cap of a portfolio counts: `sent_minutes` holds how many of them there are in each minute.
reached_people = Table(
    "reached_people",
    metadata,
    Column("key", Text, primary_key=True),  # as in `sent_minutes`
    Column("phone", Text, primary_key=True),  # E.164
    Column("minute", DateTime(timezone=True), nullable=False),  # of the last message, or of its reservation
    Column("owner", Text, nullable=False),  # whose reservation it was last, as in `permit_holders`
)

senders_status = Table(
    "senders_status",
    metadata,
    # A heartbeat for each account in use and each process that uses it.
    Column("owner", Text, primary_key=True),  # an account in one process
    Column("account", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("identity", Text, nullable=False, server_default=""),  # who we are to the provider
    Column("reason", Text),
    _time("paused_until"),
    _time("seen_at", now=True),
    _one_of("state", AccountState),
)

service_windows = Table(
    "service_windows",
    metadata,
    # Until when WhatsApp takes free text for somebody who wrote to us.
    Column("account", Text, primary_key=True),
    Column("phone", Text, primary_key=True),  # E.164
    Column("closes_at", DateTime(timezone=True), nullable=False),
)

numbers_on_whatsapp = Table(
    "numbers_on_whatsapp",
    metadata,
    # What WhatsApp Web said of a number, kept for some days.
    Column("phone", Text, primary_key=True),  # E.164
    Column("registered", Boolean, nullable=False),
    _time("checked_at", now=True),
)
