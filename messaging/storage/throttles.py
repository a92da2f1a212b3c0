"""Limits in the ledger: one row per key, by the database's clock, shared by every process."""

from sqlalchemy import Connection, text

# GCRA (the generic cell rate algorithm, ITU-T I.371) without tolerance: `next_at` is when the next permit
# is due; taking n permits puts it off by n intervals.
_RESERVE = text("""
    INSERT INTO throttles AS t (key, rate, next_at)
    VALUES (:key, :rate, clock_timestamp() + make_interval(secs => :n / :rate))
    ON CONFLICT (key) DO UPDATE SET rate = excluded.rate,
        -- Permits taken at another rate were waits of another length: they are not owed at this one.
        next_at = greatest(clock_timestamp(), CASE WHEN t.rate = excluded.rate THEN t.next_at
            ELSE least(t.next_at, clock_timestamp() + make_interval(secs => 1 / :rate)) END)
            + make_interval(secs => :n / :rate)
    RETURNING extract(epoch FROM next_at - clock_timestamp())::float - :n / :rate AS wait
""")


def reserve(connection: Connection, key: str, rate: float, n: int) -> float:
    """Take the next `n` permits at `rate` per second and return the seconds until the first is due."""
    wait = connection.execute(_RESERVE, {"key": key, "rate": float(rate), "n": float(n)}).scalar_one()
    return max(0.0, float(wait))
