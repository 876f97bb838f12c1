"""The type of the fixture `call`."""

from collections.abc import Callable

from typer.testing import Result

Call = Callable[..., Result]
