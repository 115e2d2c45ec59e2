"""Layer-norm tuning (arXiv:2312.11420): norms in the place of the base's own. As in PEFT 0.21.2, tuners/ln_tuning."""

from cuvee.adapters.kind import Kind

KIND = Kind("LN_TUNING", forms=(), keys={}, change=None, whole="ln_tuning_layers")
