"""Tests of the report room; a package, so that its invented leaderboards can be shared."""
