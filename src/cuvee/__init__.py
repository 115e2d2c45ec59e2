"""Cuvée blends language models: recipe -> merged model -> measured score -> ranked page."""

__version__ = "0.1.0"
