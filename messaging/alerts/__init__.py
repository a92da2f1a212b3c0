"""Alerts told to people: what is said, and how it reaches them."""
