"""Finds a recipe: merges candidates into a model that stays loaded, and measures them.

Importing this room imports neither torch nor transformers; `resident` does.
"""
