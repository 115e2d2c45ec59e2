"""Weight rules, one file each. `cuvee.catalogue.weight_rules` finds them."""
