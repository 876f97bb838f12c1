"""The study `init`: initialisations of a codebook against theory, on synthetic and on real data."""

from codebound.studies.framework.entry import Entry, Option, Preset

ENTRY = Entry(
    "init",
    question="Is a codebook initialisation good?",
    declaration="codebound.studies.initialisation.study:STUDY",
    help=r"""Twelve of them, judged before and after training, next to their limits: sources × seeds.

    [bold]Examples[/]

      codebound study init --quick

      codebound study init --quick --data latents.npy --out runs/mine

      codebound study init --set steps=1000 --set "sources=\[isotropic]" --set "arms=\[kmeans, best]"
    """,
    presets={"quick": Preset("3 seeds instead of 8: a few minutes.", {"seeds": 3})},
    options=(
        Option("seeds", "Number of seeds (default 8).", int),
        Option(
            "data",
            "Your own vectors instead of the study's sources: .npy, .npz, .csv, .parquet or a folder of images; at "
            "their own dimension, or at fewer by PCA: --set dim=8 takes vectors of 16 to 8 (16 → 8).",
            also={"sources": ("data",)},
        ),
        Option(
            "axis", "Which axis of an array in --data is the vector (default: the last of two or three).", int
        ),
    ),
)
