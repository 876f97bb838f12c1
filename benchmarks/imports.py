"""What an import costs: codebound's quantizers and `codebound --help` beside `import torch`.

    python benchmarks/imports.py [--rounds 15] [--write]

Processor time (user and system) of fresh processes, interleaved, medians. Run it once before to have all bytecode.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys

import page
import timing

COMMANDS = {
    "import torch": ["-c", "import torch"],
    "from codebound import VectorQuantizer": ["-c", "from codebound import VectorQuantizer"],
    "codebound --help": ["-m", "codebound", "--help"],
}
BARS = {"from codebound import VectorQuantizer": 1.15, "codebound --help": 1.3}  # of `import torch`


def seconds(arguments: list[str]) -> float:
    """Processor time of Python with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    arguments = parser.parse_args()

    # Every command has its turn in every round.
    machine = timing.machine()
    samples: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(arguments.rounds):
        for name, command in COMMANDS.items():
            samples[name].append(seconds(command))
    found = {name: statistics.median(values) for name, values in samples.items()}

    # Times, and their ratios to what PyTorch alone costs.
    unit = found["import torch"]
    rows = [[name, f"{value:.2f}", f"{value / unit:.2f}"] for name, value in found.items()]
    bars = [timing.bar(f"{name} / import torch", "", found[name] / unit, most) for name, most in BARS.items()]
    table = timing.markdown(["command", "seconds", "of import torch"], rows)
    text = "\n\n".join([f"{machine}.", table, timing.bars(bars)])
    print(text)
    if arguments.write:
        page.write_block("benchmarks.md", "imports", text)


if __name__ == "__main__":
    main()
