"""Tests of Outflow; a package, because a library of others brings one of this name."""
