"""One library call each, with its name, retries and artifact."""
