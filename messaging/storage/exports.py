"""What leaves the ledger as files: the columns of each kind of export, and their rows.

Columns are only added, at the end: tables in warehouses are made of these files.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, LiteralString, cast

from psycopg.sql import SQL, Composed
from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, insert

from messaging.storage import audiences
from schemas.export import ExportKind

if TYPE_CHECKING:
    import psycopg

Type = Literal["text", "integer", "boolean", "time", "json"]


@dataclass(frozen=True, slots=True)
class ExportColumn:
    """A column of an export."""

    name: str
    type: Type
    sql: LiteralString
    what: str
    """What it says, for people who build on it."""


@dataclass(frozen=True, slots=True)
class Export:
    """A kind of export: its rows, and what they are chosen and ordered by."""

    columns: tuple[ExportColumn, ...]
    source: LiteralString
    chosen_by: LiteralString
    """Holds for the rows of the chosen campaign or audience, whose id stands at the {}."""
    order: LiteralString
    condition: LiteralString = "true"


_CAMPAIGN: Final = ExportColumn("campaign", "text", "ca.name", "The campaign's name.")
_ADDRESS: Final = ExportColumn(
    "address", "text", "a.address", "Whom it was sent to: an e-mail address, or a phone number as E.164."
)
_ACCOUNT: Final = ExportColumn(
    "account",
    "text",
    "CASE WHEN b.leg = 0 THEN ca.spec ->> 'account' ELSE ca.spec -> 'fallback' ->> (b.leg - 1) END",
    "The account that sends, as in smtp-account/main.",
)
_CODE: Final = ExportColumn("code", "integer", "a.code", "The SMTP reply code, or the HTTP status.")
_STATUS: Final = ExportColumn("status", "text", "a.status", "The enhanced status of RFC 3463, as in 5.1.1.")
_REPLY: Final = ExportColumn("reply", "text", "a.reply", "The provider's words.")
_REASON: Final = ExportColumn(
    "reason", "text", "a.reason", "Our reason, when it was not the provider who refused."
)
_STATE: Final = ExportColumn(
    "state",
    "text",
    "a.state",
    "queued, dispatched, accepted, rejected, unknown, suppressed or cancelled.",
)
_ANSWERED_AT: Final = ExportColumn("answered_at", "time", "a.answered_at", "When its state became final.")
_ATTEMPT_ID: Final = ExportColumn(
    "attempt_id", "integer", "a.id", "Number of the attempt: the same in every export."
)
_SENT: Final[LiteralString] = (
    "attempts a JOIN campaigns ca ON ca.id = a.campaign_id JOIN batches b ON b.id = a.batch_id"
)

EXPORTS: Final[dict[ExportKind, Export]] = {
    ExportKind.CONTACTS: Export(
        columns=(
            ExportColumn("contact_id", "integer", "c.id", "Number of the contact: the same in every export."),
            ExportColumn("email", "text", "c.email", "The e-mail address as given."),
            ExportColumn("phone", "text", "c.phone", "The phone number as E.164."),
            ExportColumn("name", "text", "c.name", "The name."),
            ExportColumn("country", "text", "c.country", "ISO 3166 alpha-2."),
            ExportColumn("language", "text", "c.language", "BCP 47."),
            ExportColumn("time_zone", "text", "c.time_zone", "IANA name, as in Europe/Berlin."),
            ExportColumn("status", "text", "c.status", "subscribed, unsubscribed or pending."),
            ExportColumn("consent_source", "text", "c.consent_source", "Why they may be written to."),
            ExportColumn("consent_at", "time", "c.consent_at", "When they agreed."),
            ExportColumn(
                "suppressed",
                "text",
                "(SELECT string_agg(s.channel || ': ' || s.reason, ', ' ORDER BY s.channel)"
                " FROM suppressions s WHERE (s.expires_at IS NULL OR s.expires_at > now()) AND"
                " (s.channel = 'email' AND s.address_key = c.email_key"
                " OR s.channel = 'whatsapp' AND s.address_key = c.phone))",
                "Why they are not written to now, as in email: bounced; else empty.",
            ),
            ExportColumn("attributes", "json", "c.attributes", "The file's other columns."),
            ExportColumn("created_at", "time", "c.created_at", "When they were imported first."),
            ExportColumn("updated_at", "time", "c.updated_at", "When an import changed them last."),
        ),
        source="contacts c",
        chosen_by="c.id IN (SELECT id FROM members_of_{})",
        order="c.id",
    ),
    ExportKind.ATTEMPTS: Export(
        columns=(
            _ATTEMPT_ID,
            _CAMPAIGN,
            ExportColumn("contact_id", "integer", "a.contact_id", "Number of the contact."),
            _ADDRESS,
            _STATE,
            ExportColumn("batch", "integer", "b.number", "Number of the batch within the campaign."),
            _ACCOUNT,
            ExportColumn("tries", "integer", "a.tries", 'Definite "not now" answers about this recipient.'),
            ExportColumn("dispatched_at", "time", "a.dispatched_at", "When the message left."),
            _ANSWERED_AT,
            ExportColumn("message_id", "text", "a.message_id", "The Message-ID header; empty on WhatsApp."),
            ExportColumn(
                "provider_message_id", "text", "a.provider_message_id", "The provider's name for it."
            ),
            _CODE,
            _STATUS,
            _REPLY,
            _REASON,
        ),
        source=_SENT,
        chosen_by="a.campaign_id = {}",
        order="a.id",
    ),
    ExportKind.FAILED: Export(
        columns=(
            _ATTEMPT_ID,
            _CAMPAIGN,
            _ADDRESS,
            ExportColumn("name", "text", "c.name", "The contact's name."),
            _STATE,
            _CODE,
            _STATUS,
            _REPLY,
            _REASON,
            _ANSWERED_AT,
            ExportColumn("batch", "integer", "b.number", "As `outflow retry --batch` takes it."),
            _ACCOUNT,
        ),
        source=f"{_SENT} LEFT JOIN contacts c ON c.id = a.contact_id",
        chosen_by="a.campaign_id = {}",
        condition="a.state IN ('rejected', 'unknown')",
        order="a.id",
    ),
    ExportKind.BOUNCES: Export(
        columns=(
            ExportColumn("event_id", "integer", "e.id", "Number of the event: the same in every export."),
            _CAMPAIGN,
            _ADDRESS,
            ExportColumn("kind", "text", "e.kind", "bounced or complained."),
            ExportColumn("class", "text", "e.details ->> 'class'", "Of a bounce: hard, soft or block."),
            ExportColumn("reason", "text", "e.details ->> 'reason'", "What it was for, as in unknown user."),
            ExportColumn("status", "text", "e.details ->> 'status'", "The enhanced status of RFC 3463."),
            ExportColumn(
                "diagnostic", "text", "e.details ->> 'diagnostic'", "The words of the other server."
            ),
            ExportColumn(
                "occurred_at", "time", "e.occurred_at", "When it happened, as the sender of it says."
            ),
            ExportColumn("source", "text", "e.source", "The mailbox or queue that told us."),
            ExportColumn(
                "suppressed",
                "boolean",
                "EXISTS (SELECT FROM suppressions s WHERE s.address_key = a.address_key"
                " AND (s.expires_at IS NULL OR s.expires_at > now()))",
                "Whether the address is not written to any more.",
            ),
        ),
        source="events e JOIN attempts a ON a.id = e.attempt_id JOIN campaigns ca ON ca.id = a.campaign_id",
        chosen_by="a.campaign_id = {}",
        condition="e.kind IN ('bounced', 'complained')",
        order="e.id",
    ),
    ExportKind.EVENTS: Export(
        columns=(
            ExportColumn("event_id", "integer", "e.id", "Number of the event: the same in every export."),
            _CAMPAIGN,
            ExportColumn("attempt_id", "integer", "e.attempt_id", "Of an attempt, else empty."),
            ExportColumn("address", "text", "a.address", "Of an attempt, else empty."),
            ExportColumn(
                "kind", "text", "e.kind", "What happened, as in delivered, opened, clicked, paused."
            ),
            ExportColumn("source", "text", "e.source", "The mailbox, queue or person that told us."),
            ExportColumn("occurred_at", "time", "e.occurred_at", "When it happened, as the source says."),
            ExportColumn("received_at", "time", "e.received_at", "When we heard of it."),
            ExportColumn("details", "json", "e.details", "What else is known, by kind."),
        ),
        source="events e LEFT JOIN attempts a ON a.id = e.attempt_id"
        " LEFT JOIN campaigns ca ON ca.id = coalesce(e.campaign_id, a.campaign_id)",
        chosen_by="ca.id = {}",
        order="e.id",
    ),
}


def copy_out(connection: Connection, kind: ExportKind, chosen: int | None, file: BinaryIO) -> int:
    """Write an export's rows to a file as CSV with a header, and return how many they are.

    `chosen` is the id of a campaign, or of an audience for contacts; None: all. Times are microseconds since
    1970 in UTC; nothing is held in memory. Wants a transaction.
    """
    if kind is ExportKind.CONTACTS and chosen is not None:
        _note_members(connection, chosen)
    driver = cast("psycopg.Connection[tuple[object, ...]]", connection.connection.driver_connection)
    with driver.cursor() as cursor:
        with cursor.copy(_statement(EXPORTS[kind], chosen)) as copy:
            file.writelines(copy)
        return cursor.rowcount


def _note_members(connection: Connection, audience_id: int) -> None:
    """Put the ids of an audience's members where COPY, which takes no parameters, finds them."""
    members = Table(
        f"members_of_{audience_id}",
        MetaData(),
        Column("id", BigInteger),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )
    members.create(connection)
    connection.execute(insert(members).from_select(["id"], audiences.members(connection, audience_id)))


def _statement(export: Export, chosen: int | None) -> Composed:
    columns = SQL(", ").join(
        SQL("{} AS {}").format(_value(column), SQL(f'"{column.name}"')) for column in export.columns
    )
    where: list[SQL | Composed] = [SQL(export.condition)]
    if chosen is not None:
        where.append(SQL(export.chosen_by).format(SQL(str(int(chosen)))))
    return SQL("COPY (SELECT {} FROM {} WHERE {} ORDER BY {}) TO STDOUT (FORMAT csv, HEADER)").format(
        columns, SQL(export.source), SQL(" AND ").join(where), SQL(export.order)
    )


def _value(column: ExportColumn) -> Composed:
    value = SQL(column.sql)
    if column.type == "time":
        return SQL("(extract(epoch FROM {}) * 1000000)::bigint").format(value)
    return SQL("{}").format(value)
