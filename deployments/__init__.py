"""What must exist before a flow can run."""
