"""Vocabularies: read, compared, joined; row maps that align the embeddings and heads of models."""
