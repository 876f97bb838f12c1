"""Write the results of a full initialisation study into README.md: python tools/readme_results.py runs/init"""

import sys
from pathlib import Path

from codebound.studies.initialisation.labels import look
from codebound.studies.initialisation.rundata import load
from codebound.studies.initialisation.summary import Summary, summarise

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
SOURCES = {"isotropic": "isotropic", "anisotropic": "Σ ∝ BBᵀ", "photos": "photographs"}
ARMS = ("uniform", "kmeans", "rd_gaussian", "water_filling", "synthetic", "best")


def table(summary: Summary) -> str:
    """Markdown: start → end and its decibels for each source, dead codes at the end."""
    heads = [cell for name in SOURCES.values() for cell in (f"{name}: step 0 → trained", "dB")]
    lines = [f"| start | {' | '.join(heads)} | dead at the end |", "|---" * (len(heads) + 2) + "|"]
    for arm in ARMS:
        cells, dead = [], []
        for source in SOURCES:
            row = summary.row(source, arm)
            if row is None:
                raise SystemExit(f"{arm} was not run on {source}: the table needs a full run")
            gap = "final_gaussian_reference_db" if summary.estimated(source) else "final_gap_db"
            start, end, decibels = (
                row.metrics[name].mean for name in ("initial_fresh_distortion", "final_fresh_distortion", gap)
            )
            cells += [f"{start:.3f} → {end:.3f}", f"{decibels:+.2f}".replace("-", "−")]
            dead.append(f"{row.metrics['final_fresh_dead'].mean:.0f}")
        lines.append(f"| {look(arm).name} | {' | '.join(cells)} | {', '.join(dead)} |")
    limits = []
    for source in SOURCES:
        found = summary.limits[source]
        if summary.estimated(source):
            low, high = (found[f"shannon_{side}"].mean for side in ("low", "high"))
            text = f"Gaussian reference {found['gaussian_reference'].mean:.3f}; Shannon, estimated {low:.3f}–{high:.3f}"
        else:
            text = f"Shannon {found['shannon'].mean:.3f}"
            text += f", converse {found['converse'].mean:.3f}" if "converse" in found else ""
        limits += [text, "0"]
    return "\n".join([*lines, f"| *limit* | {' | '.join(limits)} | |"]) + "\n"


def main() -> None:
    """Replace what stands between the marks."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    README.write_text(
        before + BEGIN + table(summarise(load(Path(sys.argv[1])))) + END + after, encoding="utf-8"
    )


if __name__ == "__main__":
    main()
