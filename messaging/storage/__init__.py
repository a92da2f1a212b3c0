"""The ledger: PostgreSQL tables and the statements that touch them."""
