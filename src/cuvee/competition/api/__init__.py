"""The HTTP API: each route parses, calls one function, and answers with a type."""
