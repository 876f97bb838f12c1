"""The generation study: which part of a generator loses what, the tokenizer or the prior."""

from codebound.studies.framework.entry import Entry, Option, Preset

QUICK = {
    "seeds": 2, "sizes": (64,), "steps": 60, "prior_steps": 40, "neighbour_steps": 60, "judge_steps": 60, "width": 16,
    "prior_width": 32, "prior_depth": 1, "samples": 100, "guidances": (1.0, 2.0), "held_out": 512,
}  # fmt: skip

ENTRY = Entry(
    "generation",
    question="New pictures: what does the tokenizer lose, and what the prior?",
    declaration="codebound.studies.generation.study:STUDY",
    help=r"""Tokenizers of small and large codebooks under three kinds of prior, with and without guidance: bits a
    token, and how far samples are from real pictures, between a floor (real pictures) and a ceiling (reconstructions).

    [bold]Examples[/]

      codebound study generation --quick

      codebound study generation --data classes:shapes --set "guidances=\[1, 3]"
    """,
    presets={
        "quick": Preset("2 seeds, one codebook size, tiny networks: two minutes, wide intervals.", QUICK)
    },
    options=(
        Option("data", "Pictures with classes, as codebound train takes them (default fashion-mnist)."),
    ),
)
