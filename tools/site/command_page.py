"""The command line's page, from the commands themselves."""

import re
from collections.abc import Iterator

import click
import typer

from codebound.cli import app

MARKUP = re.compile(r"\[/?(?:bold|dim|italic|cyan|green|yellow|red)?\]")


def page() -> str:
    """A section for each command: its usage, what it does, its arguments and options."""
    root = typer.main.get_command(app)
    lines = ["# Command line", "", "What `codebound COMMAND --help` says, on one page.", ""]
    for path, command in walk("codebound", root):
        context = click.Context(command, info_name=path)  # type: ignore[arg-type]
        usage = " ".join(command.collect_usage_pieces(context))
        lines += [f"## {path}", "", "```", f"{path} {usage}", "```", "", _help(command.help or ""), ""]
        lines += _parameters(command, context)
    return "\n".join(lines) + "\n"


def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """(how it is called, command), of a group the commands below it, in their order."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        if not child.hidden:
            yield from walk(f"{path} {name}", child)


def _help(text: str) -> str:
    """A help text as Markdown: without the terminal's markup; what is indented is an example."""
    paragraphs = [part.strip("\n") for part in re.split(r"\n\s*\n", MARKUP.sub("", text).replace("\f", ""))]
    return "\n\n".join(
        f"    {part.strip()}" if part.strip().startswith("codebound ") else _escaped(part)
        for part in paragraphs
    )


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_")


def _parameters(command: click.Command, context: click.Context) -> list[str]:
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None:
            continue
        name, text = (MARKUP.sub("", part).replace("|", r"\|").replace("\n", " ") for part in record)
        rows.append(f"| `{' '.join(name.split())}` | {_escaped(' '.join(text.split()))} |")
    return ["| argument or option | what it says |", "|---|---|", *rows, ""] if rows else []
