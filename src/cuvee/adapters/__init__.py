"""LoRA adapters as low-rank task vectors: read safely, added to a base while it streams, combined exactly."""

from cuvee.adapters.adapted import Adapted
from cuvee.adapters.adapter import Adapter, open_adapter
from cuvee.adapters.config import AdapterConfig

__all__ = ["Adapted", "Adapter", "AdapterConfig", "open_adapter"]
