"""The order of things: one pipeline per file."""
