"""Which quantizer: all of them at equal rate inside the same autoencoder, on held-out vectors of three sources.

    make choosing        or        OMP_NUM_THREADS=1 python benchmarks/choosing.py [--quick]

An encoder and a decoder, each a linear map plus a small perceptron, learn with the quantizer between them: |x − x̂|²
+ the quantizer's own loss, by Adam with a cosine schedule. The network's learning rate, and one more number where a
quantizer has one that matters, are tuned for each (quantizer, rate, source) on the training vectors alone: trained on
four fifths for a third of the steps, judged on the last fifth. Then other seeds redraw everything (vectors,
networks, codewords, order); the squared error is on held-out vectors: fresh ones of the Gaussians, patches of other
photographs.

Each distortion is given in dB above Shannon's limit at that quantizer's own nominal rate, Σ log₂ K: exact for the
Gaussians; for photographs the Shannon lower bound by an entropy estimate, whose uncertainty is common to all rows and
is given apart, and the water-filled Gaussian of equal covariance, which is no bound.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import joblib
import page
import timing
import torch
from autoencoder import ARMS, BATCH, DIM, SOURCES, Found, Run, gap, reference, shannon, source, train

from codebound.quantize import Quantizer
from codebound.reporting.statistics import Interval, mean_interval
from codebound.theory import gaussian

LEARNING_RATES = (2e-3, 6e-3, 2e-2)
TUNING_SEED = 1000
# One table of 65,536 is timed and not trained: it alone would take hours.
RATES = {10: tuple(ARMS), 16: ("FSQ", "LFQ", "BSQ", "Residual, 2 stages", "Product, 2 parts")}


def runs(tuned: Mapping[tuple, tuple[float, float]] | None, steps: int, seeds: int) -> list[Run]:
    """Those that tune, or with the tuned values those that count."""
    found = []
    for name in SOURCES:
        for bits, arms in RATES.items():
            for arm in arms:
                if tuned is None:
                    pairs = [(lr, value) for lr in LEARNING_RATES for value in ARMS[arm].values]
                    found += [Run(arm, bits, name, TUNING_SEED, steps // 3, *pair, True) for pair in pairs]
                else:
                    pair = tuned[arm, bits, name]
                    found += [Run(arm, bits, name, seed, steps, *pair, False) for seed in range(seeds)]
    return found


def best(tuning: Mapping[Run, Found]) -> dict[tuple, tuple[float, float]]:
    """The tuned (learning rate, value) of each (quantizer, rate, source)."""
    found: dict[tuple, Run] = {}
    for run, result in tuning.items():
        key = run.arm, run.bits, run.source
        if key not in found or result.distortion < tuning[found[key]].distortion:
            found[key] = run
    return {key: (run.lr, run.value) for key, run in found.items()}


def plus_minus(found: Interval, digits: int = 2) -> str:
    return f"{found.mean:.{digits}f} ± {found.high - found.mean:.{digits}f}"


def seconds_per_step(rounds: int) -> dict[tuple[str, int], float]:
    """Of the quantizer alone (forward, backward, `update_`) on one batch, relative to plain VQ of 10 bits."""
    work: dict[tuple[str, int], Callable[[], object]] = {}
    timed = [(arm, bits) for bits, arms in RATES.items() for arm in arms] + [("VQ, EMA", 16)]
    for arm, bits in timed:
        quantizer = ARMS[arm].make(bits, 0, ARMS[arm].values[0])
        z = torch.randn(BATCH, quantizer.dim, requires_grad=True)
        if (arm, bits) == ("VQ, EMA", 16):
            quantizer.codebook.reset_(torch.randn(2**16, DIM))  # k-means of 65,536 would take minutes
        else:
            quantizer.init_(torch.randn(8192, quantizer.dim))

        def step(quantizer: Quantizer = quantizer, z: torch.Tensor = z) -> None:
            found = quantizer(z)
            (found.z_q.sum() + found.loss).backward()
            quantizer.update_(found)

        work[arm, bits] = step
    named = {f"{arm}/{bits}": step for (arm, bits), step in work.items()}
    found = timing.medians(named, rounds, seconds=5.0)
    unit = found["VQ, EMA/10"][0]
    return {(arm, bits): found[f"{arm}/{bits}"][0] / unit for arm, bits in work}


def results_table(results: Mapping[Run, Found], relative: Mapping[tuple[str, int], float], name: str) -> str:
    rows = []
    for bits, arms in RATES.items():
        for arm in arms:
            mine = {
                run: f for run, f in results.items() if (run.arm, run.bits, run.source) == (arm, bits, name)
            }
            row = [arm, f"{next(iter(mine.values())).rate:.2f}"]
            row.append(plus_minus(mean_interval(gap(run, f) for run, f in mine.items())))
            if name == "photographs":
                row.append(plus_minus(mean_interval(reference(run, f) for run, f in mine.items())))
            row += [
                f"{100 * statistics.mean(getattr(f, k) for f in mine.values()):.0f} %"
                for k in ("perplexity", "usage")
            ]
            rows.append([*row, f"{relative[arm, bits]:.2f}"])
    more = ["dB above the Gaussian reference"] if name == "photographs" else []
    limit = "dB above the Shannon lower bound" if name == "photographs" else "dB above Shannon"
    head = ["quantizer", "bits", limit, *more, "perplexity / K", "usage", "time of a step"]
    return timing.markdown(head, rows)


CLAIMS = [
    ("FSQ is as good as VQ", "FSQ", "VQ, EMA", 10),
    ("the rotation trick beats straight-through", "VQ, EMA, rotation trick", "VQ, EMA", 10),
    ("SimVQ beats a table trained by gradient", "SimVQ", "VQ, gradient, no revival", 10),
    ("SimVQ beats revival", "SimVQ", "VQ, gradient", 10),
    ("codes of length 1 beat plain ones", "ViT-VQGAN (codes of length 1)", "VQ, gradient, no revival", 10),
    ("EMA beats the gradient", "VQ, EMA", "VQ, gradient", 10),
    ("revival beats none", "VQ, gradient", "VQ, gradient, no revival", 10),
    ("BSQ beats LFQ", "BSQ", "LFQ", 10),
    ("BSQ beats LFQ", "BSQ", "LFQ", 16),
    ("one table beats two residual stages", "VQ, EMA", "Residual, 2 stages", 10),
    ("residual stages beat FSQ", "Residual, 2 stages", "FSQ", 16),
    ("residual stages beat parts", "Residual, 2 stages", "Product, 2 parts", 16),
]


def claims_table(results: Mapping[Run, Found]) -> str:
    """First minus second in dB of gap, seed by seed; what the interval says."""
    rows = []
    for claim, first, second, bits in CLAIMS:
        row = [f"{claim}: {first} − {second}", str(bits)]
        for name in SOURCES:
            found = {
                arm: {run.seed: gap(run, f) for run, f in results.items() if run[:3] == (arm, bits, name)}
                for arm in (first, second)
            }
            apart = mean_interval(found[first][seed] - found[second][seed] for seed in found[first])
            word = "better" if apart.below(0) else "worse" if apart.above(0) else "level"
            row.append(f"{apart.mean:+.2f} ± {apart.high - apart.mean:.2f} {word}")
        rows.append(row)
    return timing.markdown(["claim: first − second, dB", "bits", *SOURCES], rows)


def uncertainty(seeds: Sequence[int], rate: float = 10.0) -> str:
    """How far the estimated bound of the photographs may lie off, in dB."""
    ends = [[shannon(source("photographs", seed), rate, which) for which in range(3)] for seed in seeds]
    low = statistics.mean(gaussian.gap_db(bits, least) for bits, least, _ in ends)
    high = statistics.mean(gaussian.gap_db(most, bits) for bits, _, most in ends)
    return f"between {low:.2f} dB lower and {high:.2f} dB higher"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument(
        "--quick", action="store_true", help="30 steps, 2 seeds, nothing written: does it run?"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.seeds = 30, 2
    torch.set_num_threads(1)
    began, machine = time.perf_counter(), timing.machine()
    parallel = joblib.Parallel(n_jobs=arguments.jobs, batch_size=1)  # pyright: ignore[reportArgumentType]

    def results(todo: Sequence[Run]) -> dict[Run, Found]:
        # Those that share vectors come together, for each process's cache.
        found = parallel(joblib.delayed(train)(run) for run in todo)
        print(f"{len(todo)} runs done after {time.perf_counter() - began:.0f} s", flush=True)
        return dict(zip(todo, found, strict=True))

    relative = seconds_per_step(3 if arguments.quick else 15)
    tuned = best(results(runs(None, arguments.steps, 0)))
    found = results(runs(tuned, arguments.steps, arguments.seeds))
    minutes = (time.perf_counter() - began) / 60
    text = [
        f"Written by `make choosing` in {minutes:.0f} minutes on {machine}. "
        f"{arguments.steps} steps of {BATCH} vectors, {arguments.seeds} seeds; ± is the 95 % interval of the mean over "
        "seeds. Time of a step: the quantizer alone, forward, backward and update, against plain VQ of 10 bits; one "
        f"table of 16 bits takes {relative['VQ, EMA', 16]:.0f} and was not trained.",
    ]
    for name in SOURCES:
        text += [f"**{name}**", results_table(found, relative, name)]
    text += [
        f"The photographs' Shannon lower bound is estimated: it may lie {uncertainty(range(arguments.seeds))}, for all "
        "rows alike.",
        "**Claims**, seed by seed; negative is better for the first",
        claims_table(found),
        "**Tuned** learning rate of the networks, and of the codebook (times that) or weight of the entropy",
        tuned_table(tuned),
    ]
    print("\n\n".join(text))
    if not arguments.quick:
        page.write_block("choosing.md", "choosing", "\n\n".join(text))


def tuned_table(tuned: Mapping[tuple, tuple[float, float]]) -> str:
    rows = [
        [arm, str(bits), *(tuned_cell(arm, *tuned[arm, bits, name]) for name in SOURCES)]
        for bits, arms in RATES.items()
        for arm in arms
    ]
    return timing.markdown(["quantizer", "bits", *SOURCES], rows)


def tuned_cell(arm: str, lr: float, value: float) -> str:
    return f"{lr:g}" + {"codebook": f" × {value:g}", "entropy": f", {value:g}", "": ""}[ARMS[arm].knob]


if __name__ == "__main__":
    main()
