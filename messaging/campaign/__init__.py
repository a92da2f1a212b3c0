"""From a campaign's definition to answers in the ledger."""
