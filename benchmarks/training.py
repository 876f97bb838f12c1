"""Training and periodic evaluation of the initialisation study: batched over arms, against one run after another.

    make bench

Baseline: the textbook loop on the same latents, order, optimizers and evaluations: a VQ-VAE with the fixed PCA
encoder and decoder, straight-through autograd, `torch.cdist` + `argmin`. Both on one thread, interleaved round by
round; medians; the ratio is time per run. Both must end at the same distortion.
"""

from __future__ import annotations

import argparse
import statistics
import time

import page
import timing
import torch
from torch import Tensor, nn

from codebound import search
from codebound.batched.codebooks import Adam, Group, batch_order, train_codebooks
from codebound.metrics.usage import geometry, usage
from codebound.nets.linear import PCA
from codebound.quantize.update import EMA
from codebound.studies.initialisation import arms as arm_table
from codebound.studies.initialisation import cell as cell_module
from codebound.studies.initialisation import sources
from codebound.studies.initialisation.settings import Settings


def textbook(
    x: Tensor, x_fresh: Tensor, encoder: PCA, rule: Adam | EMA, start: Tensor, order: Tensor, every: int
) -> Tensor:
    """One run the plain way; returns the final codebook."""
    codebook = nn.Parameter(start.clone())
    counts, sums = torch.ones(len(start)), start.clone()
    optimizer = torch.optim.Adam([codebook], lr=rule.lr) if isinstance(rule, Adam) else None
    cosine = isinstance(rule, Adam) and rule.schedule == "cosine"
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(order)) if cosine else None

    def evaluate() -> None:
        with torch.no_grad():
            for data in (x, x_fresh):
                z = encoder.encode(data)
                indices = torch.cdist(z, codebook).argmin(1)
                z_q = codebook[indices]
                (z - z_q).square().sum(1).mean().item()
                (data - encoder.decode(z_q)).square().sum(1).mean().item()
                usage(torch.bincount(indices, minlength=len(codebook)))
            geometry(codebook)

    for step, rows in enumerate(order):
        if step % every == 0:
            evaluate()
        batch = x[rows]
        z = encoder.encode(batch)
        indices = torch.cdist(z, codebook).argmin(1)
        if optimizer is not None:
            z_q = codebook[indices]
            straight = z + (z_q - z).detach()
            loss = (batch - encoder.decode(straight)).square().sum(1).mean()
            loss = loss + (z.detach() - z_q).square().sum(1).mean()
            loss = loss + 0.25 * (z - z_q.detach()).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
        else:
            with torch.no_grad():
                one_hot = nn.functional.one_hot(indices, len(codebook)).float()
                counts.mul_(rule.decay).add_(one_hot.sum(0), alpha=1 - rule.decay)
                sums.mul_(rule.decay).add_(one_hot.T @ z, alpha=1 - rule.decay)
                smoothed = (counts + rule.smoothing) * (
                    counts.sum() / (counts.sum() + len(counts) * rule.smoothing)
                )
                codebook.copy_(sums / smoothed.unsqueeze(1))
    evaluate()
    return codebook.detach()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-least", type=float, default=5.0, help="fail under this ratio")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine = timing.machine()
    settings = Settings(sources=("isotropic",), seeds=1, steps=arguments.steps)
    latents = sources.draw(settings, "isotropic", settings.first_seed)
    starts = cell_module.initial_codebooks(settings, "isotropic", settings.first_seed, latents.train)
    runs, groups = cell_module.groups(settings, starts)
    stream = sources.generator("isotropic", settings.first_seed, "order")
    order = batch_order(len(latents.train), settings.batch_size, settings.steps, stream)
    fresh = latents.held_out[: settings.fresh_samples]

    # The textbook loop encodes and decodes; any orthonormal axes cost the same.
    axes = torch.linalg.qr(torch.randn(settings.ambient_dim, settings.dim)).Q
    encoder = PCA(axes)
    x, x_fresh = encoder.decode(latents.train), encoder.decode(fresh)
    rules = arm_table.optimizers(settings)
    every = settings.evaluate_every

    def batched() -> Tensor:
        def evaluate(step: int, books: Tensor) -> None:
            cell_module.measure_all(latents, fresh, books)

        return train_codebooks(
            latents.train, [Group(g.rule, g.start.clone()) for g in groups], order, evaluate, every
        )

    batched()  # the first call of an optimizer imports the compiler
    ours, theirs = [], {name: [] for name in rules}
    books, plain = batched(), {}
    for _ in range(arguments.rounds):
        began = time.process_time()
        books = batched()
        ours.append((time.process_time() - began) / len(runs))
        for name, rule in rules.items():
            began = time.process_time()
            plain[name] = textbook(x, x_fresh, encoder, rule, starts["kmeans"], order, every)
            theirs[name].append(time.process_time() - began)
    for name, book in plain.items():
        mine = books[[tuple(run) for run in runs].index(("kmeans", name))]
        apart = [float(search.distortion(fresh, codebook)) for codebook in (mine, book)]
        print(f"kmeans/{name}: distortion on fresh data {apart[0]:.5f}, textbook {apart[1]:.5f}")
        # Not the codewords: a vector on a cell's border goes either way, and Adam does not forget.
        if abs(apart[0] / apart[1] - 1) > 1e-3:
            raise SystemExit(f"{name}: the two loops do not agree")
    # The textbook's optimizers in the proportion of the study's runs.
    plain_ms = statistics.mean(statistics.median(theirs[run.optimizer]) for run in runs) * 1e3
    ours_ms = statistics.median(ours) * 1e3
    ratio = plain_ms / ours_ms
    text = [
        f"{machine}.",
        f"{settings.steps} steps, evaluation every {every}, per run: textbook {plain_ms:.0f} ms, batched over "
        f"{len(runs)} runs {ours_ms:.0f} ms: {ratio:.1f} × faster.",
        timing.bars(
            [timing.bar("batched / textbook", "per run", ours_ms / plain_ms, 1 / arguments.at_least)]
        ),
    ]
    print("\n\n".join(text))
    if arguments.write:
        page.write_block("benchmarks.md", "training", "\n\n".join(text))
    if ratio < arguments.at_least:
        raise SystemExit(f"under the {arguments.at_least} × that is asked for")


if __name__ == "__main__":
    main()
