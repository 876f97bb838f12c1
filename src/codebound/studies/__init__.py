"""Questions as data: arms, seeds, claims, verdicts, a report."""
