"""From an import's rows to the ledger: temporary tables that COPY fills, and the merge, all set-based.

The ledger knows a contact by the e-mail address in comparable form, else by the phone number. An e-mail
address has an @ and a number has none, so that both fit in one `key`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import LiteralString

from sqlalchemy import Connection, TextClause, text

from messaging.storage.imports import copy_csv
from schemas.contacts import OnDuplicate

CONTACT_FIELDS = (
    "email_key",
    "email",
    "phone",
    "phone_type",
    "phone_region",
    "name",
    "country",
    "time_zone",
    "language",
    "status",
    "consent_source",
    "consent_text",
    "consent_at",
)
"""The columns of a staged contact, between `row_number` and `attributes`."""

OTHER_PHONES = "Other phones"
"""The attribute that keeps further numbers of a contact, apart by `; `."""

_BYTES = 'COLLATE "C"'  # compared as bytes, which is several times faster than any language's order
_ONE_AT_A_TIME = 7_305_802  # any number: the advisory lock that merges of one database share

_TABLES = f"""
    SET LOCAL timezone = 'UTC'; -- of times that come without one
    CREATE TEMPORARY TABLE staged_contacts (
        row_number integer, email_key text, email text, phone text, phone_type text, phone_region text,
        name text, country text, time_zone text, language text, status text,
        consent_source text, consent_text text, consent_at timestamptz, attributes jsonb, {{cells}}
        other_phones text[], -- of merged rows only
        key text {_BYTES} GENERATED ALWAYS AS (coalesce(email_key, phone)) STORED
    ) ON COMMIT DROP;
    CREATE TEMPORARY TABLE staged_refused (row_number integer, reason text, cells jsonb) ON COMMIT DROP
"""
_COPY_CONTACTS: LiteralString = (
    "COPY staged_contacts (row_number, email_key, email, phone, phone_type, phone_region, name, country, "
    "time_zone, language, status, consent_source, consent_text, consent_at, attributes{cells}) "
    "FROM STDIN WITH (FORMAT csv, ENCODING 'UTF8')"
)
_COPY_REFUSED: LiteralString = (
    "COPY staged_refused (row_number, reason, cells) FROM STDIN WITH (FORMAT csv, ENCODING 'UTF8')"
)

# A merge runs alone, so it may have some memory; what does not fit goes to disk.  Compiling its statements
# takes longer than it saves.
_SETTINGS = (
    "SET LOCAL work_mem = '128MB'; SET LOCAL jit = off; ANALYZE staged_contacts (key, email_key, phone)"
)


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of the staged rows."""

    imported: int
    """Distinct addresses given to the audience."""
    new: int
    """Of them, contacts that the ledger had not known."""
    duplicates: int
    """Rows merged into another row of the same address."""
    refused: dict[str, int]
    """Rows refused by reason, with `OnDuplicate.REFUSE` only."""
    without_consent: int
    """Contacts among the imported ones who have no consent, now that all is merged."""
    differing: int = 0
    """Merged rows of which a name or an attribute was not taken, because an earlier row has another."""


class Staging:
    """One import's temporary tables, in its transaction."""

    def __init__(self, connection: Connection, *, keep_cells: bool) -> None:
        """Make the tables; with `keep_cells` each contact brings its row as it stood in the file."""
        self._connection = connection
        self._copy_contacts: LiteralString = _COPY_CONTACTS.format(cells=", cells" if keep_cells else "")
        self._rows = 0
        connection.execute(text(_TABLES.format(cells="cells text," if keep_cells else "")))

    def add_contacts(self, csv: bytes) -> None:
        """Stage rows given as CSV without a header: row_number, `CONTACT_FIELDS`, attributes[, cells].

        `attributes` and `cells` are JSON objects without nulls.
        """
        self._rows += copy_csv(self._connection, self._copy_contacts, csv)

    def add_refused(self, csv: bytes) -> None:
        """Stage refused rows given as CSV without a header: row_number, reason, cells."""
        copy_csv(self._connection, _COPY_REFUSED, csv)

    def merge(self, *, audience_id: int, import_id: int, on_duplicate: OnDuplicate) -> Merged:
        """Merge the staged contacts into the ledger and make them members of the audience.

        One merge at a time: the next one waits. A contact about whom nothing is new is not locked.
        """
        connection = self._connection
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})
        connection.execute(text(_SETTINGS))
        into = {"audience_id": audience_id, "import_id": import_id}
        if on_duplicate is OnDuplicate.REFUSE:
            refused = {row.reason: row.rows for row in connection.execute(_REFUSE)}
            made = connection.execute(_insert(_NOT_REFUSED), into).one()
            connection.execute(_HONOUR_WISHES)
            return Merged(made.contacts, made.contacts, 0, refused, made.without_consent)
        changes = _CHANGES[on_duplicate]
        connection.execute(_find_known(changes))
        known = connection.execute(_KNOWN).one()
        imported, new, without_consent, differing = known.contacts, 0, known.without_consent, 0
        if known.contacts:
            connection.execute(_JOIN, into)
        if known.differing or known.rows < self._rows:
            last_wins = on_duplicate is OnDuplicate.UPDATE
            connection.execute(_merge_repeated(last_wins=last_wins))
            differing = 0 if last_wins else connection.execute(_DIFFERING).scalar_one()
        if known.differing:
            connection.execute(_update(changes))
        if known.rows < self._rows:
            made = connection.execute(_insert(_UNKNOWN), into).one()
            imported, new = imported + made.contacts, made.contacts
            without_consent += made.without_consent
        return Merged(imported, new, self._rows - imported, {}, without_consent, differing)

    def keep_refused(self, import_id: int) -> None:
        """Keep all refused rows with the import."""
        self._connection.execute(_KEEP_REFUSED, {"import_id": import_id})


_REFUSE = text("""
    WITH judged AS (
        SELECT s.row_number, s.cells, CASE
            WHEN row_number() OVER (PARTITION BY s.key ORDER BY s.row_number) > 1 THEN 'duplicate in file'
            WHEN e.id IS NOT NULL OR (s.email_key IS NULL AND p.id IS NOT NULL) THEN 'already a contact'
            WHEN p.id IS NOT NULL THEN 'conflict with another contact'
        END AS reason
        FROM staged_contacts s
        LEFT JOIN contacts e ON e.email_key = s.email_key
        LEFT JOIN contacts p ON p.phone = s.phone AND p.email_key IS NULL
    ),
    refused AS (
        INSERT INTO staged_refused (row_number, reason, cells)
        SELECT row_number, reason, cells::jsonb FROM judged WHERE reason IS NOT NULL RETURNING reason
    )
    SELECT reason, count(*) AS rows FROM refused GROUP BY reason
""")

# Whatever becomes of the row, its person's wish counts.
_HONOUR_WISHES = text("""
    UPDATE contacts c SET status = 'unsubscribed', updated_at = now() FROM staged_contacts s
    WHERE s.status = 'unsubscribed' AND c.status <> 'unsubscribed'
        AND (c.email_key = s.email_key OR (s.email_key IS NULL AND c.email_key IS NULL AND c.phone = s.phone))
""")

_KEEP_REFUSED = text("""
    INSERT INTO refused_rows (import_id, row_number, reason, cells)
    SELECT :import_id, row_number, reason, cells FROM staged_refused ORDER BY row_number
""")

_KNOWN = text("""
    SELECT count(*) AS contacts, coalesce(sum(rows), 0) AS rows, bool_or(differs) AS differing,
        count(*) FILTER (WHERE without_consent) AS without_consent
    FROM staged_known
""")

# In order, as everybody takes these locks.
_JOIN = text("""
    INSERT INTO audience_members (audience_id, contact_id, import_id)
    SELECT :audience_id, contact_id, :import_id FROM staged_known k
    WHERE NOT EXISTS (
        SELECT FROM audience_members m WHERE m.audience_id = :audience_id AND m.contact_id = k.contact_id)
    ORDER BY contact_id ON CONFLICT DO NOTHING
""")

_DIFFERING = text("""
    SELECT count(*) FROM staged_contacts s JOIN staged_merged m USING (key)
    WHERE s.name <> m.name OR NOT m.attributes @> s.attributes
""")

# Columns that stand for themselves; others belong to a number, a consent, or have a rule of their own.
_ONES = ("email_key", "email", "name", "country", "time_zone", "language")
_FIELDS = ", ".join((*CONTACT_FIELDS, "attributes"))
_STAGED = f"key, {_FIELDS}, other_phones"

_NOT_REFUSED = f"""
    SELECT {_STAGED} FROM staged_contacts s
    WHERE NOT EXISTS (SELECT FROM staged_refused r WHERE r.row_number = s.row_number)
"""  # noqa: S608 - constants from above
_ONE_EACH = f"""
    SELECT {_STAGED} FROM staged_contacts s
    WHERE NOT EXISTS (SELECT FROM staged_merged m WHERE m.key = s.key)
    UNION ALL SELECT {_STAGED} FROM staged_merged
"""  # noqa: S608 - constants from above
_UNKNOWN = f"""
    SELECT * FROM ({_ONE_EACH}) s WHERE NOT EXISTS (SELECT FROM staged_known k WHERE k.key = s.key)
"""  # noqa: S608 - constants from above


def _merge_repeated(*, last_wins: bool) -> TextClause:
    """Make one row of the rows of each address that has several: per column the first, or last, value wins.

    Where the first wins, further numbers become an attribute: people have several phones, a row each.
    A number keeps its own type and region, a consent its own wording and time, be they empty. The least and
    the greatest of "row number, value" take no more memory for an address of a million rows.
    """
    wins, order = ("max", "ASC") if last_wins else ("min", "DESC")
    phones = "NULL::text[]" if last_wins else f"array_agg(DISTINCT phone {_BYTES})"
    ones = ", ".join(f"substr({wins}((place || {name}) {_BYTES}), 11) AS {name}" for name in _ONES)
    return text(f"""
        CREATE TEMPORARY TABLE staged_merged ON COMMIT DROP AS
        WITH repeated AS MATERIALIZED (
            SELECT key FROM staged_contacts s
            WHERE NOT EXISTS (SELECT FROM staged_known k WHERE k.key = s.key AND NOT k.differs)
            GROUP BY key HAVING count(*) > 1
        ),
        placed AS (
            SELECT s.*, lpad(s.row_number::text, 10, '0') AS place
            FROM staged_contacts s JOIN repeated USING (key) OFFSET 0
        ),
        merged AS (
            SELECT key, {ones},
                substr({wins}((place || ARRAY[phone, phone_type, phone_region]::text) {_BYTES})
                    FILTER (WHERE phone IS NOT NULL), 11)::text[] AS phone,
                substr(min((place || ARRAY[consent_source, consent_text, consent_at::text]::text) {_BYTES})
                    FILTER (WHERE consent_source IS NOT NULL), 11)::text[] AS consent,
                CASE WHEN bool_or(status = 'unsubscribed') THEN 'unsubscribed'
                    WHEN bool_or(status = 'pending') THEN 'pending' ELSE min(status) END AS status,
                jsonb_merged(attributes ORDER BY row_number {order}) AS attributes, {phones} AS phones
            FROM placed GROUP BY key
        )
        SELECT key, email_key, email, phone[1] AS phone, phone[2] AS phone_type, phone[3] AS phone_region,
            name, country, time_zone, language, status, consent[1] AS consent_source,
            consent[2] AS consent_text, consent[3]::timestamptz AS consent_at, attributes,
            nullif(array_remove(array_remove(phones, NULL), phone[1]), '{{}}') AS other_phones
        FROM merged;
        ANALYZE staged_merged (key)
    """)  # noqa: S608 - constants from above


def _changed_consent(when: str) -> dict[str, str]:
    """Say what becomes of the three columns of a consent, which change together."""
    given = {"consent_at": "coalesce(s.consent_at, now())"}
    return {
        name: f"CASE WHEN s.consent_source IS NOT NULL AND ({when}) "
        f"THEN {given.get(name, f's.{name}')} ELSE c.{name} END"
        for name in ("consent_source", "consent_text", "consent_at")
    }


# An import subscribes nobody.  Awaiting a confirmation says nothing against a consent on record.
_STATUS = """CASE WHEN s.status = 'unsubscribed'
    OR (s.status = 'pending' AND c.status = 'subscribed' AND c.consent_source IS NULL)
    THEN s.status ELSE c.status END"""

# A number that is not the contact's becomes an attribute, once.
_FILLED = "CASE WHEN c.attributes @> s.attributes THEN c.attributes ELSE s.attributes || c.attributes END"
_FILLED_WITH_PHONES = f"""CASE
    WHEN s.other_phones IS NULL AND coalesce(s.phone = c.phone, true) THEN {_FILLED}
    ELSE s.attributes || c.attributes || coalesce((
        SELECT jsonb_build_object('{OTHER_PHONES}',
            concat_ws('; ', c.attributes ->> '{OTHER_PHONES}', string_agg(number, '; ')))
        FROM unnest(array_prepend(s.phone, s.other_phones)) number
        WHERE number <> coalesce(c.phone, s.phone) AND strpos(
            concat('; ', c.attributes ->> '{OTHER_PHONES}', '; '), concat('; ', number, '; ')) = 0
        HAVING count(*) > 0
    ), '{{}}') END"""  # noqa: S608 - constants from above

# What becomes of a known contact `c`, given what is staged about it, `s`.  `@>` saves making objects anew.
_CHANGES: Mapping[OnDuplicate, Mapping[str, str]] = {
    OnDuplicate.FILL: {
        **{name: f"coalesce(c.{name}, s.{name})" for name in (*_ONES[2:], "phone")},
        **{
            name: f"CASE WHEN c.phone IS NULL OR c.phone = s.phone THEN coalesce(c.{name}, s.{name}) "
            f"ELSE c.{name} END"
            for name in ("phone_type", "phone_region")
        },
        "attributes": _FILLED_WITH_PHONES,
        "status": _STATUS,
        **_changed_consent("c.consent_source IS NULL"),
    },
    OnDuplicate.UPDATE: {
        **{name: f"coalesce(s.{name}, c.{name})" for name in (*_ONES[1:], "phone")},
        **{
            name: f"CASE WHEN s.phone IS NULL THEN c.{name} "
            f"WHEN s.phone = c.phone THEN coalesce(s.{name}, c.{name}) ELSE s.{name} END"
            for name in ("phone_type", "phone_region")
        },
        "attributes": "CASE WHEN c.attributes @> s.attributes THEN c.attributes "
        "ELSE c.attributes || s.attributes END",
        "status": _STATUS,
        **_changed_consent("c.consent_source IS NULL OR s.consent_at > coalesce(c.consent_at, '-infinity')"),
    },
    # Only a person's own wish counts.
    OnDuplicate.KEEP: {"status": "CASE WHEN s.status = 'unsubscribed' THEN s.status ELSE c.status END"},
}


def _differs(changes: Mapping[str, str]) -> str:
    before = ", ".join(f"c.{name}" for name in changes)
    return f"ROW({before}) IS DISTINCT FROM ROW({', '.join(changes.values())})"


def _find_known(changes: Mapping[str, str]) -> TextClause:
    """Find the contacts that the ledger has already, and whether a row says anything new about them.

    A plain join takes no locks. A small file finds its contacts by index, a large one by hashing.
    """
    still_without = f"{changes.get('consent_source', 'c.consent_source')} IS NULL AS without_consent"
    return text(f"""
        CREATE TEMPORARY TABLE staged_known ON COMMIT DROP AS
        SELECT key, contact_id, count(*) AS rows, bool_or(differs) AS differs,
            bool_and(without_consent) AS without_consent
        FROM (
            SELECT s.key, c.id AS contact_id, {_differs(changes)} AS differs, {still_without}
            FROM staged_contacts s JOIN contacts c ON c.email_key = s.email_key
            UNION ALL
            SELECT s.key, c.id, {_differs(changes)}, {still_without}
            FROM staged_contacts s JOIN contacts c ON c.phone = s.phone AND c.email_key IS NULL
            WHERE s.email_key IS NULL
        ) found GROUP BY key, contact_id
    """)  # noqa: S608 - constants from above


def _update(changes: Mapping[str, str]) -> TextClause:
    """Change the known contacts about whom something is new.

    The values are made of the contact as it is when it is written: what was committed meanwhile, such as
    an unsubscribe, stays.
    """
    assigned = ", ".join(f"{name} = {value}" for name, value in changes.items())
    return text(f"""
        UPDATE contacts c SET {assigned}, updated_at = now()
        FROM ({_ONE_EACH}) s JOIN staged_known k ON k.key = s.key AND k.differs
        WHERE c.id = k.contact_id AND {_differs(changes)}
    """)  # noqa: S608 - constants from above


def _insert(people: str) -> TextClause:
    """Insert the contacts that the ledger does not know, as members.

    In order of their key: each page of the index is then visited once. Without ON CONFLICT, which takes
    nearly twice as long: only imports add contacts, and they do it one at a time.
    """
    return text(f"""
        WITH made AS (
            INSERT INTO contacts ({_FIELDS})
            SELECT email_key, email, phone, phone_type, phone_region, name, country, time_zone, language,
                coalesce(status, 'subscribed'), consent_source,
                CASE WHEN consent_source IS NOT NULL THEN consent_text END,
                CASE WHEN consent_source IS NOT NULL THEN coalesce(consent_at, now()) END,
                CASE WHEN other_phones IS NULL THEN attributes
                    ELSE attributes || jsonb_build_object('{OTHER_PHONES}', concat_ws(
                        '; ', attributes ->> '{OTHER_PHONES}', array_to_string(other_phones, '; '))) END
            FROM ({people}) people ORDER BY key RETURNING id, consent_source IS NULL AS without_consent
        ),
        joined AS (
            INSERT INTO audience_members (audience_id, contact_id, import_id)
            SELECT :audience_id, id, :import_id FROM made
        )
        SELECT count(*) AS contacts, count(*) FILTER (WHERE without_consent) AS without_consent FROM made
    """)  # noqa: S608 - constants from above
