"""Measurements, each defined once (docs/metrics.md).

`CodeUsage` and `Gap` are torchmetrics `Metric`s; they are imported at first use, because torchmetrics takes more
than a second to import and most commands don't need it.
"""

from typing import TYPE_CHECKING

from codebound.extras import on_demand
from codebound.metrics.usage import usage, used

if TYPE_CHECKING:
    from codebound.metrics.code_usage import CodeUsage
    from codebound.metrics.effnet import EffnetDistance
    from codebound.metrics.gap import Gap
    from codebound.metrics.vgg import VggDistance

__all__ = ["CodeUsage", "EffnetDistance", "Gap", "VggDistance", "usage", "used"]

__getattr__ = on_demand(
    __name__,
    {
        "CodeUsage": "codebound.metrics.code_usage",
        "EffnetDistance": "codebound.metrics.effnet",
        "Gap": "codebound.metrics.gap",
        "VggDistance": "codebound.metrics.vgg",
    },
)
