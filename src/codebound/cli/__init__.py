"""The command line: parse, call, print."""

from codebound.cli.main import app, main

__all__ = ["app", "main"]
