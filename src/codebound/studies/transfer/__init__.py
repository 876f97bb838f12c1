"""The transfer study: tokenizers of one kind of pictures on pictures of another."""

from codebound.studies.framework.entry import Entry, Preset

QUICK = {
    "seeds": 2, "domains": ("photos", "letters", "spectrograms"), "steps": 60, "refit_steps": 30, "width": 16,
    "held_out": 128, "pictures": 1024, "batch_size": 32,
}  # fmt: skip

ENTRY = Entry(
    "transfer",
    question="Does a tokenizer of one kind of pictures serve another?",
    declaration="codebound.studies.transfer.study:STUDY",
    help=r"""Tokenizers of photographs, clothes (Fashion-MNIST), letters and spectrograms on one another's pictures: as
    they are, with another codebook, another decoder, both, or trained on.

    [bold]Examples[/]

      codebound study transfer --quick

      codebound study transfer --set "domains=\[photos, spectrograms]"
    """,
    presets={"quick": Preset("2 seeds, three domains, tiny networks: a minute, wide intervals.", QUICK)},
)
