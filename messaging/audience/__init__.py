"""From a file to judged contacts."""
