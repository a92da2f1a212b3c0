"""What one recipient wants: found by the token of a link, changed by the person who followed it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast
from uuid import UUID

from sqlalchemy import Connection, Row, text

from schemas.accounts import channel_of
from schemas.states import Channel, SubscriptionStatus, SuppressionReason

BY_THEMSELVES: Final = "the recipient"
"""Who lifted a suppression, when it was lifted on the preference page."""

_ACCOUNT = """
    CASE WHEN b.leg = 0 THEN c.spec ->> 'account' ELSE c.spec -> 'fallback' ->> (b.leg - 1) END AS account
"""
_FIND = text(f"""
    SELECT a.id, a.token, a.contact_id, a.address, a.address_key, a.campaign_id, c.audience_id,
        u.name AS audience, p.email_key, p.phone, {_ACCOUNT}
    FROM attempts a JOIN batches b ON b.id = a.batch_id JOIN campaigns c ON c.id = a.campaign_id
    LEFT JOIN audiences u ON u.id = c.audience_id LEFT JOIN contacts p ON p.id = a.contact_id
    WHERE a.token = :token
""")  # noqa: S608 - constants of this module
_SENT = text(f"""
    SELECT a.token, coalesce(a.answered_at, a.dispatched_at) AS at, {_ACCOUNT}
    FROM attempts a JOIN batches b ON b.id = a.batch_id JOIN campaigns c ON c.id = a.campaign_id
    WHERE a.token = ANY (:tokens)
""")  # noqa: S608 - constants of this module
# One change of one recipient's wishes at a time, whichever message's link each uses.  The database's clock
# says when: what came before a wish was taken back does not count any more.
_HOLD = text("""
    SELECT clock_timestamp()
    FROM pg_advisory_xact_lock(hashtextextended('wishes ' || :channel || ' ' || :key, 0))
""")
_THEIRS = "unnest(CAST(:channels AS text[]), CAST(:keys AS text[])) AS theirs (channel, address_key)"
# Lists that the contact is in, audiences it was written to as a member of, and those it has left.
_AUDIENCES = text(f"""
    WITH opted_out AS (
        SELECT audience_id, bool_or(channel = :channel AND address_key = :key) AS here
        FROM audience_opt_outs JOIN {_THEIRS} USING (channel, address_key) GROUP BY audience_id
    )
    SELECT u.id, u.name, NOT coalesce(o.here, false) AS wanted
    FROM (
        SELECT audience_id FROM audience_members WHERE contact_id = :contact_id
        UNION SELECT c.audience_id FROM attempts a JOIN campaigns c ON c.id = a.campaign_id
            WHERE a.contact_id = :contact_id OR a.id = :attempt_id
        UNION SELECT audience_id FROM opted_out
    ) belongs
    JOIN audiences u ON u.id = belongs.audience_id LEFT JOIN opted_out o ON o.audience_id = u.id
    ORDER BY lower(u.name), u.id
""")  # noqa: S608 - constants of this module
_SUPPRESSED = text("""
    SELECT reason FROM suppressions
    WHERE channel = :channel AND address_key = :key AND (expires_at IS NULL OR expires_at > now())
""")
_STATUS = text("SELECT status FROM contacts WHERE id = :contact_id")
_LEAVE = text(f"""
    INSERT INTO audience_opt_outs (audience_id, channel, address_key, source)
    SELECT left_now.id, channel, address_key, :source
    FROM unnest(CAST(:audiences AS bigint[])) AS left_now (id), {_THEIRS} ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING
""")  # noqa: S608 - constants of this module
_RETURN = text(f"""
    DELETE FROM audience_opt_outs o USING {_THEIRS}
    WHERE o.audience_id = ANY (:audiences)
        AND o.channel = theirs.channel AND o.address_key = theirs.address_key
""")  # noqa: S608 - constants of this module
# Who wants nothing wants nothing at any address; who takes it back does so for all of them, but not what they
# have said elsewhere, of another address: the page did not show it.
_LIFT = text(f"""
    UPDATE suppressions s SET expires_at = clock_timestamp(), lifted_by = :by,
        given_back_at = clock_timestamp() FROM suppressions shown, {_THEIRS}
    WHERE s.channel = theirs.channel AND s.address_key = theirs.address_key AND s.reason = 'unsubscribed'
        AND (s.expires_at IS NULL OR s.expires_at > now())
        AND shown.channel = :channel AND shown.address_key = :key AND shown.reason = 'unsubscribed'
        AND (shown.expires_at IS NULL OR shown.expires_at > now()) AND s.source = shown.source
""")  # noqa: S608 - constants of this module
_SUBSCRIBE = text("""
    UPDATE contacts SET status = 'subscribed', updated_at = now()
    WHERE id = :contact_id AND status = 'unsubscribed'
""")
# What was recorded stays; it says since when it does not hold any more.
_TAKEN_BACK = text("""
    UPDATE events e SET details = e.details || jsonb_build_object('taken_back_at', now())
    FROM attempts a JOIN campaigns c ON c.id = a.campaign_id
    WHERE (a.contact_id = :contact_id OR a.id = :attempt_id)
        AND e.attempt_id = a.id AND e.kind = 'unsubscribed' AND NOT e.details ? 'taken_back_at'
        AND CASE WHEN e.details ->> 'everywhere' = 'false' THEN c.audience_id = ANY (:audiences)
            ELSE :everything END
""")


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whose link it is, and what it was about."""

    attempt_id: int
    token: UUID
    channel: Channel
    address: str
    address_key: str
    contact_id: int | None
    campaign_id: int
    audience_id: int | None
    """None: of a campaign to groups alone."""
    audience: str
    addresses: tuple[tuple[Channel, str], ...]
    """This one and the contact's others, in comparable form."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Whether somebody wants what is sent to one audience."""

    audience_id: int
    audience: str
    wanted: bool


@dataclass(frozen=True, slots=True)
class Wishes:
    """All that one recipient has said, and what else keeps us from writing."""

    audiences: tuple[Wish, ...]
    suppressed: SuppressionReason | None
    """Why the address is not written to at all."""
    refused_in_files: bool
    """Our address book says that they want nothing, or have not confirmed that they do."""

    @property
    def by_themselves(self) -> bool:
        """Whether it is the recipient's own wish that we write nothing, which they may take back."""
        return self.suppressed is SuppressionReason.UNSUBSCRIBED

    def left(self, audience_id: int | None) -> bool:
        """Say whether they want no more of one audience."""
        return any(wish.audience_id == audience_id and not wish.wanted for wish in self.audiences)


@dataclass(frozen=True, slots=True)
class Sent:
    """The message that a link was in."""

    channel: Channel
    at: datetime | None
    """When it was accepted, or else handed over."""


def find(connection: Connection, token: UUID) -> Recipient | None:
    """Return whose token it is; None: it was in a test message, or the campaign is gone."""
    row = connection.execute(_FIND, {"token": token}).one_or_none()
    return _recipient(row) if row else None


def _recipient(row: Row[tuple[object, ...]]) -> Recipient:
    channel = channel_of(row.account)
    addresses = {(channel, row.address_key), (Channel.EMAIL, row.email_key), (Channel.WHATSAPP, row.phone)}
    return Recipient(
        attempt_id=row.id,
        token=row.token,
        channel=channel,
        address=row.address,
        address_key=row.address_key,
        contact_id=row.contact_id,
        campaign_id=row.campaign_id,
        audience_id=row.audience_id,
        audience=row.audience or "",
        addresses=tuple(sorted((of, key) for of, key in addresses if key)),
    )


def sent(connection: Connection, tokens: Sequence[UUID]) -> dict[UUID, Sent]:
    """Return the messages that links with these tokens were in, where there are any."""
    rows = connection.execute(_SENT, {"tokens": list(tokens)})
    return {row.token: Sent(channel_of(row.account), row.at) for row in rows}


def hold(connection: Connection, recipient: Recipient) -> datetime:
    """Keep others from changing this recipient's wishes until the transaction ends; return the time."""
    parameters = {"channel": recipient.channel, "key": recipient.address_key}
    return cast("datetime", connection.execute(_HOLD, parameters).scalar_one())


def read(connection: Connection, recipient: Recipient) -> Wishes:
    """Return what a recipient wants now."""
    parameters = _of(recipient)
    audiences = connection.execute(_AUDIENCES, parameters)
    suppressed = connection.execute(_SUPPRESSED, parameters).one_or_none()
    status = connection.execute(_STATUS, parameters).scalar_one_or_none()
    return Wishes(
        audiences=tuple(Wish(row.id, row.name, row.wanted) for row in audiences),
        suppressed=SuppressionReason(suppressed.reason) if suppressed else None,
        refused_in_files=status not in {None, SubscriptionStatus.SUBSCRIBED},
    )


def leave(connection: Connection, recipient: Recipient, audiences: Collection[int], source: str) -> None:
    """Record that they want no more of these audiences."""
    connection.execute(_LEAVE, _of(recipient) | {"audiences": list(audiences), "source": source})


def come_back(connection: Connection, recipient: Recipient, audiences: Collection[int]) -> None:
    """Take back, as they ask, that they wanted no more of these audiences."""
    connection.execute(_RETURN, _of(recipient) | {"audiences": list(audiences)})
    _taken_back(connection, recipient, audiences)


def lift(connection: Connection, recipient: Recipient) -> bool:
    """Take back, as they ask, that they wanted nothing at all; say whether they had.

    What a complaint, a bounce or one of us has ended stays so.
    """
    lifted = connection.execute(_LIFT, _of(recipient) | {"by": BY_THEMSELVES}).rowcount > 0
    if lifted:
        connection.execute(_SUBSCRIBE, _of(recipient))
        _taken_back(connection, recipient, (), everything=True)
    return lifted


def _taken_back(
    connection: Connection, recipient: Recipient, audiences: Collection[int], *, everything: bool = False
) -> None:
    scope = {"audiences": list(audiences), "everything": everything}
    connection.execute(_TAKEN_BACK, _of(recipient) | scope)


def _of(recipient: Recipient) -> dict[str, object]:
    return {
        "attempt_id": recipient.attempt_id,
        "contact_id": recipient.contact_id,
        "channel": recipient.channel,
        "key": recipient.address_key,
        "channels": [channel for channel, _ in recipient.addresses],
        "keys": [key for _, key in recipient.addresses],
    }
