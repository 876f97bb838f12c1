"""The command line, called in this process."""

from typer.testing import CliRunner

from codebound.cli import app


def call(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command; an error that it doesn't answer for is raised."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr
