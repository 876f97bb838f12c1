"""The estimators study: which gradient, and is any worth it in the linear case?"""

from codebound.studies.framework.entry import Entry

ENTRY = Entry(
    "estimators", question="Which gradient estimator, in the linear case?", topic="C1–C8", declaration=""
)
