"""Any file people have, as chunks of rows of text."""
