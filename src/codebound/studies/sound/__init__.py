"""The study of sound: files of speech beside Opus, by bytes."""

from codebound.studies.framework.entry import Entry, Option, Preset

ENTRY = Entry(
    "sound",
    question="How many bytes does speech take?",
    declaration="codebound.studies.sound.study:STUDY",
    help=r"""Our files of speech beside Opus, by bytes on disk, on a voice and a language that no training saw.

    PESQ, STOI and ViSQOL need the extra speech-metrics.

    [bold]Examples[/]

      codebound study sound

      codebound study sound --data folder:recordings --set visqol=false --out runs/recordings

      codebound study sound --set trade=0.6
    """,
    presets={"quick": Preset("Three recordings, without ViSQOL.", {"most": 3, "visqol": False})},
    options=(
        Option("data", "speech (default: the held-out voice), or folder:PATH, of which a tenth is judged."),
        Option("model", "A tokenizer's folder (default: the one in the package)."),
    ),
    jobs=1,
)
