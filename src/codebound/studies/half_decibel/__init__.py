"""The half-decibel study: every code at equal bytes, and how far it stands from the best that there can be."""

from codebound.studies.framework.entry import Entry, Preset

ENTRY = Entry(
    "half-decibel",
    question="How far from the rate-distortion bound do codes of equal size stand?",
    declaration="codebound.studies.half_decibel.study:STUDY",
    help=r"""Trellis codes, k-means codes, faiss's codes and scalars at equal bits a value, on sources whose bound is
    known and on latents of photographs.

    [bold]Examples[/]

      codebound study half-decibel --quick

      codebound study half-decibel --set "sources=\[gaussian, tokens]" --set "rates=\[2]"
    """,
    presets={
        "quick": Preset(
            "Two seeds, three sources, one and two bits.",
            {
                "seeds": 2,
                "sources": ("gaussian", "spectrum", "photographs"),
                "rates": (1.0, 2.0),
                "train": 9984,
                "test": 2048,
            },
        )
    },
)
