"""The participant's and the judge's common ground: competitions, rules, locks, archives, sandboxes, verdicts.

Importing this room imports neither torch nor transformers: models run in processes of their own.
"""
