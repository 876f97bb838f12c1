"""Everything that a study's declaration is written with, in one import."""

from codebound.reporting.finding import Finding, sides
from codebound.reporting.formatting import count_text, number, typeset
from codebound.reporting.long_table import LongTable, Metric, Record
from codebound.reporting.statistics import Interval, mean_interval
from codebound.reporting.stock_figures import Look
from codebound.reporting.tables import Column, ResultTable, Swatch
from codebound.studies.framework.cells import Cell, CellResult, grid, stream
from codebound.studies.framework.content import Content, Illustration, Section
from codebound.studies.framework.entry import Entry, Option, Preset
from codebound.studies.framework.results import FinishedCell, StudyRun
from codebound.studies.framework.study import Study

__all__ = [
    "Cell", "CellResult", "Column", "Content", "Entry", "Finding", "FinishedCell", "Illustration", "Interval",
    "LongTable", "Look", "Metric", "Option", "Preset", "Record", "ResultTable", "Section", "Study", "StudyRun",
    "Swatch", "count_text", "grid", "mean_interval", "number", "sides", "stream", "typeset",
]  # fmt: skip
