"""Is a codebook initialisation good? Answered against theory, on synthetic and on real data (mission rows A1–A12)."""

from codebound.studies.framework.entry import Entry

ENTRY = Entry("init", question="Is a codebook initialisation good?", topic="A1–A12", declaration="")
