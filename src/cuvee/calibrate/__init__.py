"""Looks at data: a little text shows which inputs each weight matters for, and a merge is repaired by it.

Importing this room imports neither torch nor transformers; what it calls does.
"""
