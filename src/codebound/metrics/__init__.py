"""Measurements, each defined once (docs/metrics.md).

`CodeUsage` and `Gap` are torchmetrics `Metric`s; they are imported at first use, because torchmetrics takes more
than a second to import and most commands don't need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from codebound.metrics.usage import usage, used

if TYPE_CHECKING:
    from codebound.metrics.code_usage import CodeUsage
    from codebound.metrics.effnet import EffnetDistance
    from codebound.metrics.gap import Gap

__all__ = ["CodeUsage", "EffnetDistance", "Gap", "usage", "used"]

_LAZY = {
    "CodeUsage": "codebound.metrics.code_usage",
    "EffnetDistance": "codebound.metrics.effnet",
    "Gap": "codebound.metrics.gap",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'codebound.metrics' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
