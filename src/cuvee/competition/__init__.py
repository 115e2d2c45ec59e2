"""The organiser's side of a competition: database, queue, workers, HTTP API, pages, final ranking.

Importing this room imports nothing heavy. The process that serves the API imports neither torch nor transformers; only
a worker's judge does, in the worker's own process.
"""
