"""A study small enough to be read at a glance: how far the mean of a few coin throws is from one half."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from pydantic import Field

from codebound import config
from codebound.studies.framework import declare as fw


class Settings(config.Settings):
    CHOOSES = frozenset({"seeds"})

    seeds: int = Field(3, ge=1)
    throws: tuple[int, ...] = (10, 1000)
    pause: float = 0.0


class Coins(fw.Study[Settings]):
    entry = fw.Entry(
        "coins",
        question="How far is the mean of a few throws from one half?",
        declaration="toy_study:STUDY",
        presets={"quick": fw.Preset("Two seeds.", {"seeds": 2})},
        options=(fw.Option("most", "Throws of the longer series.", int, "throws"),),
    )
    settings = Settings
    claims_file = "toy_claims.yaml"
    metrics = (
        fw.Metric("error", "Error", better="less", digits=3, floor=0),
        fw.Metric("heads", "Heads", better="more"),
        fw.Metric("rare", "Rare", absent="no series was long enough"),
    )

    def prepare(self, settings: Settings) -> dict[str, str]:
        return {"coin": "fair"}

    def cells(self, settings: Settings) -> list[fw.Cell]:
        cells = fw.grid(seed=range(settings.seeds), throws=settings.throws)
        return [*cells, fw.Cell("clock", {}, alone=True, aside=True)]

    def measure(self, settings: Settings, cell: fw.Cell) -> dict | fw.CellResult:
        time.sleep(settings.pause)
        if cell.name == "clock":
            return {"process": os.getpid()}
        throws = np.random.default_rng([cell["seed"], cell["throws"]]).integers(0, 2, cell["throws"])
        files = {f"throws/{cell.name}.npy": lambda path: path.write_bytes(throws.tobytes())}
        result = {"error": abs(throws.mean() - 0.5), "heads": int(throws.sum())}
        return fw.CellResult(result, files)

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        rows = [(throws, run.table.interval("error", throws=throws)) for throws in run.settings.throws]
        table = fw.ResultTable(
            "Errors", [fw.Column("Throws"), fw.Column.of(self.metrics[0])], [list(row) for row in rows]
        )
        return fw.Content(
            "Coins",
            answer=f"After {rows[-1][0]} throws the mean is off by {rows[-1][1].mean:.3f}.",
            sections=[fw.Section("Errors", "They shrink.", tables=[table])],
            results={"rows": [{"throws": throws, "error": error.to_json()} for throws, error in rows]},
        )


STUDY = Coins()


if __name__ == "__main__":
    import sys

    from codebound.studies.framework.run import run

    run(STUDY, Path(sys.argv[1]), Settings(pause=0.2))
