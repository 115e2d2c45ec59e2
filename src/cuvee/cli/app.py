"""The whole command line, every verb of it, as its documentation reads it."""

from cuvee.cli.verbs import VERBS, make_app

app = make_app(VERBS)
