"""Searches for better recipes, honestly."""
