"""How codewords live and die: simulation beside theory, for SGD and EMA."""

from codebound.studies.framework.entry import Entry, Preset

ENTRY = Entry(
    "population",
    question="How many codewords die, and do they return?",
    topic="A12",
    declaration="codebound.studies.population.study:STUDY",
    help=r"""Simulation beside theory, for SGD and EMA.

    [bold]Examples[/]

      codebound study population --quick

      codebound study population --set "scenarios=\[{name: mine, update: ema, decay: .99, codebook_size: 64, batch_size: 64, init: normal, std: 2, source: gaussian, dim: 2}]" --out runs/mine
    """,  # noqa: E501
    presets={
        "quick": Preset("An eighth of the runs: wide intervals.", {"codewords": 1024}),
        "full": Preset("Also one setting at a time around two bases.", {"sweep": True}),
    },
)
