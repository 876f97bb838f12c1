"""The hierarchy study: grids of one, two or three resolutions that take equally many bytes."""

from codebound.studies.framework.entry import Entry, Option, Preset

QUICK = {
    "seeds": 2, "arms": ("one", "two", "three"), "bits": (384.0, 576.0), "steps": 60, "prior_steps": 40,
    "held_out": 256, "samples": 64, "features": ("pixels",), "width": 16, "prior_width": 32, "batch_size": 32,
}  # fmt: skip

ENTRY = Entry(
    "hierarchy",
    question="One level of codes or several?",
    declaration="codebound.studies.hierarchy.study:STUDY",
    help=r"""Tokenizers of one, two and three resolutions (VQ-VAE-2) at equal bytes: what they give back, what their
    codes cost, what samples of a prior over them look like, and what each level is worth.

    [bold]Examples[/]

      codebound study hierarchy --quick

      codebound study hierarchy --data fashion-mnist --set "arms=\[one, two]"
    """,
    presets={"quick": Preset("2 seeds, tiny networks, few steps: two minutes, wide intervals.", QUICK)},
    options=(Option("data", "Pictures, as codebound train takes them (default photos)."),),
)
