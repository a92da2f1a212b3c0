"""What must exist before a flow can run, and ways to run it all on one machine."""
