"""The compression study: files of bytes beside JPEG, WebP and AVIF, and what the indices in them cost."""

from codebound.studies.framework.entry import Entry, Option, Preset

ENTRY = Entry(
    "compression",
    question="How many bytes does a picture take?",
    declaration="codebound.studies.compression.study:STUDY",
    help=r"""Our files beside JPEG, WebP and AVIF, and what an index costs. Bytes are those on disk.

    Ours are of wavelets, which is what `codebound compress` writes; `--set ours=tokens` compares a tokenizer's.

    [bold]Examples[/]

      codebound study compression

      codebound study compression --data holiday --set "codecs=\[jpeg, webp, avif, jxl]" --out runs/holiday
    """,
    presets={"quick": Preset("Two pictures.", {"most": 2})},
    options=(
        Option("data", "A folder of pictures (default: the embedded held-out photographs)."),
        Option("model", "A tokenizer's folder (default: the one in the package)."),
    ),
    jobs=1,
)
