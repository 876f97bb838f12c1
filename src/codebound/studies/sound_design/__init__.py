"""The study of sound designs: which codes at equal bits, and which losses at equal steps."""

from codebound.studies.framework.entry import Entry, Option, Preset

QUICK = {
    "seeds": 2, "steps": 12, "fit_frames": 2500, "codebook_size": 64, "stages": 4, "bits": (6, 24), "clips": 2,
    "width": 16, "hidden": 16, "blocks": 1, "channels": 4, "listeners": False,
}  # fmt: skip

ENTRY = Entry(
    "sound-design",
    question="Which codes and which losses does speech want?",
    declaration="codebound.studies.sound_design.study:STUDY",
    help=r"""Residual and product codebooks, one table and FSQ's grid on one transform of speech at equal nominal bits,
    without a network; then a decoder's network on equal codes by spectral and complex losses and against
    discriminators, and a SEANet, at equal steps.

    PESQ and STOI need the extra speech-metrics.

    [bold]Examples[/]

      codebound study sound-design --quick

      codebound study sound-design --data folder:recordings --set listeners=false
    """,
    presets={
        "quick": Preset("2 seeds, small codebooks and networks, few steps, without PESQ and STOI.", QUICK)
    },
    options=(Option("data", "speech (default: a voice is held out), or folder:PATH, of which a tenth is."),),
    jobs=1,
)
