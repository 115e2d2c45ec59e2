"""Weight rules, one file each. `cuvee.addition.weight_rules` finds them."""
