"""Messages of a campaign whose Message-ID is known, so that reports can be made around them."""

from dataclasses import dataclass

from sqlalchemy import Engine, text

from schemas.campaign import CampaignSpec
from tests.fakes import reports


@dataclass(frozen=True, slots=True)
class Sent:
    address: str
    token: str
    message_id: str
    campaign_id: int

    @property
    def message(self) -> bytes:
        return reports.message(self.address, message_id=self.message_id, campaign_id=self.campaign_id)


def sent(ledger: Engine, *addresses: str, name: str = "spring-offer") -> list[Sent]:
    """Make contacts and a running campaign over SMTP that has reached all of them."""
    spec = CampaignSpec(
        name=name, account="smtp-account/main", audience=name, subject="Hi", text="Dear {{ name }}"
    )
    with ledger.begin() as connection:
        rows = connection.execute(
            text("""
                WITH audience AS (INSERT INTO audiences (name) VALUES (:name) RETURNING id),
                campaign AS (
                    INSERT INTO campaigns (name, spec, audience_id, state)
                    SELECT :name, CAST(:spec AS jsonb), id, 'running'
                    FROM audience RETURNING id),
                batch AS (
                    INSERT INTO batches (campaign_id, number) SELECT id, 1 FROM campaign
                    RETURNING id, campaign_id),
                people AS (
                    INSERT INTO contacts (email_key, email)
                    SELECT lower(a), a FROM unnest(CAST(:addresses AS text[])) AS u (a)
                    ON CONFLICT (email_key) DO UPDATE SET email = excluded.email RETURNING id, email)
                INSERT INTO attempts (campaign_id, batch_id, contact_id, address_key, address, state,
                    dispatched_at, answered_at, message_id)
                SELECT batch.campaign_id, batch.id, people.id, lower(email), email, 'accepted', now(), now(),
                    '<' || replace(gen_random_uuid()::text, '-', '') || '.' || batch.campaign_id
                        || '@shop.example.org>'
                FROM people, batch
                RETURNING address, token, message_id, campaign_id
            """),
            {"name": name, "spec": spec.model_dump_json(), "addresses": list(addresses)},
        )
        by_address = {
            row.address: Sent(row.address, row.token.hex, row.message_id, row.campaign_id) for row in rows
        }
    return [by_address[address] for address in addresses]
