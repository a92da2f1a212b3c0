"""What comes back after sending: bounces, complaints, automatic replies."""
