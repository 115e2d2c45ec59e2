"""Settings of all tests: compiling a kernel for the first time is no reason for a property to fail."""

from hypothesis import settings

settings.register_profile("cuvee", deadline=None)
settings.load_profile("cuvee")
