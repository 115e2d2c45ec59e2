"""Modifiers of a merged change, one file each. `cuvee.addition.modifiers` finds them."""
