"""What a prior answers does not depend on whether it is being trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def in_eval(method: F) -> F:
    """A method of a module that runs in eval, without dropout; each part's own mode comes back after it."""

    @wraps(method)
    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        training = [module for module in self.modules() if module.training]
        self.eval()
        try:
            return method(self, *arguments, **options)
        finally:
            for module in training:
                module.training = True

    return cast(F, wrapped)
