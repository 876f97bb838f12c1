"""Do all codewords get used, and what does it buy? Quantizers at K = 256 to 65,536 on photograph crops (rows B2–B6)."""

from codebound.studies.framework.entry import Entry

ENTRY = Entry(
    "utilisation", question="Are all codewords used, and what does it buy?", topic="B2–B6", declaration=""
)
