"""The utilisation study: the same image tokenizer around thirteen quantizers, from K = 256 to 65,536."""

from codebound.studies.framework.entry import Entry, Preset

QUICK = {
    "sizes": (256,), "arms": ("vq-ema", "vq-ema-norevival", "ba-documents-hard", "ba", "fsq"), "bad_start_size": None,
    "large_sizes": (2048,), "large_arms": ("vq-ema", "fsq"), "huge_sizes": (), "seeds": 2, "fewer_seeds": 2,
    "steps": 150, "held_out": 1024, "init_tokens": 8192,
}  # fmt: skip
ENTRY = Entry(
    "utilisation",
    question="Are all codewords used, and what does it buy?",
    declaration="codebound.studies.utilisation.study:STUDY",
    help=r"""EMA, Blahut–Arimoto, SimVQ, FSQ … at K = 256 to 65,536: usage, PSNR and rate on held-out photographs.

    [bold]Examples[/]

      codebound study utilisation --quick

      codebound study utilisation --set "arms=\[vq-ema, ba]" --set large_sizes=[] --set huge_sizes=[] --out runs/mine
    """,
    presets={"quick": Preset("2 seeds, small sizes, few steps: minutes, wide intervals.", QUICK)},
)
