"""The command `codebound`, also as `python -m codebound`."""

import sys

from codebound.extras import MissingExtra, require_lab


def main() -> None:
    """Entry point of the command; without the extra `lab` one line on stderr, and exit code 2."""
    try:
        require_lab("the command codebound")
    except MissingExtra as missing:
        sys.stderr.write(f"Error: {missing}\n")
        sys.exit(2)
    from codebound.cli import main as command

    command()


if __name__ == "__main__":
    main()
