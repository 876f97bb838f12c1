"""The estimators study: which gradient, and is any worth it in the linear case?"""

from codebound.studies.framework.entry import Entry, Option, Preset

ENTRY = Entry(
    "estimators",
    question="Which gradient estimator, in the linear case?",
    declaration="codebound.studies.estimators.study:STUDY",
    help=r"""Straight-through, rotation, projection beside PCA + Lloyd. Every error next to D(R).

    [bold]Examples[/]

      codebound study estimators --quick

      codebound study estimators --full --jobs 2

      codebound study estimators --set steps=600 --set long_steps=1000 --set "codebook_sizes=\[8]" --out runs/mine
    """,
    presets={
        "quick": Preset(
            "2 seeds, 2 sources, 2 more codebook sizes.",
            {"seeds": 2, "sources": ("gaussian", "mixture"), "codebook_sizes": (8, 64)},
        ),
        "full": Preset(
            "20 seeds, and the open questions: MLP, noise, high dimension, photographs.",
            {
                "seeds": 20,
                "sources": ("gaussian", "mixture", "laplace", "noisy", "high", "photos"),
                "mlp_sources": ("gaussian", "mixture", "photos"),
            },
        ),
    },
    options=(Option("seeds", "Number of seeds (default 5).", int),),
)
