"""How to merge some experts: what they changed, and what merges of measured families say of such changes."""

from cuvee.suggest.advice import Advice
from cuvee.suggest.changes import Changes
from cuvee.suggest.suggest import Suggestion, suggest
from cuvee.suggest.survey import Survey

__all__ = ["Advice", "Changes", "Suggestion", "Survey", "suggest"]
