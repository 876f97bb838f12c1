"""How codewords live and die: simulation beside theory."""

from codebound.studies.framework.entry import Entry

ENTRY = Entry(
    "population", question="How many codewords die, and do they return?", topic="A12", declaration=""
)
