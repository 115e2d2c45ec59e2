"""Modifiers of a merged change, one file each. `cuvee.catalogue.modifiers` finds them."""
