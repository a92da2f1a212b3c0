"""Ways to hand over a message, one module per channel."""
