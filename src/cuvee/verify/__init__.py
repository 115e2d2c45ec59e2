"""Checks that a written model is as its `cuvee.json` says, and works."""

from cuvee.verify.verify import Check, Verification, verify, verify_layers

__all__ = ["Check", "Verification", "verify", "verify_layers"]
