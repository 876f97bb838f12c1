"""The adversary study: whether a discriminator helps a decoder on frozen codes, and at which cost."""

from codebound.studies.framework.entry import Entry, Option, Preset

QUICK = {
    "seeds": 2, "base_steps": 60, "steps": 40, "width": 16, "discriminator_width": 8, "pictures": 64,
    "features": ("pixels",), "points": 2, "batch_size": 16, "init_tokens": 2048, "codebook_size": 64,
}  # fmt: skip

ENTRY = Entry(
    "adversary",
    question="Does an adversary help at equal codes and equal steps?",
    declaration="codebound.studies.adversary.study:STUDY",
    help=r"""A tokenizer's decoder is trained on, on frozen codes: by squared error alone, and against a discriminator
    of little and of much weight. PSNR, and distances of what comes back to real pictures, in features that no arm was
    trained with.

    [bold]Examples[/]

      codebound study adversary --quick

      codebound study adversary --data fashion-mnist --set steps=2000
    """,
    presets={"quick": Preset("2 seeds, tiny networks, few steps: a minute, wide intervals.", QUICK)},
    options=(Option("data", "Pictures, as codebound train takes them (default photos)."),),
)
