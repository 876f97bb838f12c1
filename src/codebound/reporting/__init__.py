"""How results are told: statistics, claims, findings, tables, plots, pages."""
