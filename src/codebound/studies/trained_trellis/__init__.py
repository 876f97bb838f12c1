"""Tokenizers trained with a trellis code beside those of codebooks, at equal bytes of files."""

from codebound.studies.framework.entry import Entry, Preset

ENTRY = Entry(
    "trained-trellis",
    question="Is a tokenizer better when it is trained with an entropy-coded trellis, at equal bytes of files?",
    declaration="codebound.studies.trained_trellis.study:STUDY",
    help=r"""Small tokenizers of photographs with trellis codes, a codebook by EMA, residual codebooks and FSQ: the
    codes of held-out pictures are written to a file, and PSNR is compared at equal bytes.

    [bold]Examples[/]

      codebound study trained-trellis --quick

      codebound study trained-trellis --set seeds=2 --set steps=2000
    """,
    presets={
        "quick": Preset(
            "One seed, 100 steps, 64 held-out pictures.", {"seeds": 1, "steps": 100, "held_out": 64}
        )
    },
)
