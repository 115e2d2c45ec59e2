"""The methods that need nothing but the models: no statistics of what their weights see."""

from cuvee.catalogue import registry

PLAIN = {key: method for key, method in registry().items() if not method.inputs}
