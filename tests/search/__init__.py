"""Tests of the search room; a package, so that its simulations can be shared."""
