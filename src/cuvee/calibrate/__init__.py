"""Looks at data: a little text shows which inputs each weight matters for, and a merge is repaired by it.

Importing this room imports neither torch nor transformers; its functions do.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cuvee.calibrate.outcome import Aligned

__all__ = ["align", "merge_aligned"]


def align(*arguments: Any, **options: Any) -> "Aligned":
    """Repair a merge by a text for each of its experts. See `cuvee.calibrate.repair.align`."""
    from cuvee.calibrate import repair

    return repair.align(*arguments, **options)


def merge_aligned(*arguments: Any, **options: Any) -> "Aligned":
    """Merge a recipe that says `align`, and repair the result. See `cuvee.calibrate.repair.merge_aligned`."""
    from cuvee.calibrate import repair

    return repair.merge_aligned(*arguments, **options)
