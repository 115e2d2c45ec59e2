"""How to merge some experts: their changes, and the lessons of measured merges of other families."""

from cuvee.suggest.advice import Advice
from cuvee.suggest.changes import Changes
from cuvee.suggest.suggest import Suggestion, suggest
from cuvee.suggest.survey import Survey

__all__ = ["Advice", "Changes", "Suggestion", "Survey", "suggest"]
