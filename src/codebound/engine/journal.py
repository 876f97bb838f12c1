"""The log of a training: one row a logged step, in `metrics.jsonl` and `metrics.csv`."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codebound.files import write_text


def volatile(column: str) -> bool:
    """Whether a column of the log differs between two runs of the same training."""
    return column.endswith("_per_s") or column == "data_wait"


@dataclass(frozen=True)
class Journal:
    """Rows by step, appended to `metrics.jsonl`; `metrics.csv` is the same as a table."""

    folder: Path

    @property
    def path(self) -> Path:
        """The JSON lines."""
        return self.folder / "metrics.jsonl"

    def add(self, step: int, values: Mapping[str, float | int | None]) -> None:
        """Append a row; what is not finite becomes null, which JSON has."""
        row = {
            name: None if value is None or not math.isfinite(value) else value
            for name, value in values.items()
        }
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **row}) + "\n")

    def rewind(self, step: int) -> None:
        """Keep the rows up to a step: those after it, and a line cut short, will be written again."""
        rows = [row for row in self.rows() if row["step"] <= step]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows."""
        if not self.path.exists():
            return []

        # Lines that are no whole row are passed over.
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # a process was killed while it wrote
                continue
            if isinstance(row, dict) and "step" in row:
                rows.append(row)
        return rows

    def write_csv(self) -> None:
        """`metrics.csv`: a column for every name; a cell is empty where a row has no such value."""
        # Rows of evaluations have more columns than others: every name gets one, in the order of its first use.
        rows = self.rows()
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.folder / "metrics.csv", text.getvalue())
