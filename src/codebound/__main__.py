"""`python -m codebound` is the command `codebound`."""

from codebound.cli import main

main()
