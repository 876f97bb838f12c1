"""Quantizers ready to use: with the settings of papers (`papers`), and by the names of `codebound train` (`named`)."""

from codebound.recipes.papers import (
    FSQ_LEVELS,
    best_rq,
    bsq,
    dac,
    ectcq,
    encodec,
    fsq,
    llamagen,
    mimi,
    open_magvit2,
    simvq,
    snac,
    titok,
    var,
    vit_vqgan,
    vqvae2017,
)

__all__ = [
    "FSQ_LEVELS",
    "best_rq",
    "bsq",
    "dac",
    "ectcq",
    "encodec",
    "fsq",
    "llamagen",
    "mimi",
    "open_magvit2",
    "simvq",
    "snac",
    "titok",
    "var",
    "vit_vqgan",
    "vqvae2017",
]
