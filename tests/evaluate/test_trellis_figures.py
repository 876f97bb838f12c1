"""Figures of an image tokenizer whose codes are levels of a trellis: their rate is their entropy."""

import math

import pytest
import torch

from codebound import Trellis, metrics
from codebound.evaluate import tokenizers as evaluation
from codebound.quantize.trellis_aim import entropy_bits
from codebound.quantize.trellis_search import HALF
from codebound.recipes import named
from codebound.tokenizers import ImageTokenizer


def test_the_rate_of_levels_is_their_entropy():
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(Trellis(4, rate=6.0), width=8, depth=1, stride=4, linear=True).eval()
    pictures = torch.randint(0, 256, (48, 3, 16, 16), dtype=torch.uint8)
    z = tokenizer.latents(pictures)
    tokenizer.quantizer.init_(z)
    figures = evaluation.held_out_figures(tokenizer, pictures)

    bits = entropy_bits(tokenizer.encode(pictures).flatten(0, 2) - HALF)
    assert bits == pytest.approx(6.0, rel=0.05)
    assert figures["bpp_entropy"] == pytest.approx(bits / 16)
    assert figures["bpp_nominal"] is None
    assert figures["usage"] is None
    assert figures["tokens"] == 48 * 16
    gap = metrics.Gap(4, tokenizer.quantizer.codebook_sizes, rate=bits, samples=4000)
    gap.update(z, tokenizer.quantizer.decode(tokenizer.quantizer.encode(z)))
    assert figures["gap_db"] == pytest.approx(float(gap.compute()["gap_db"]))
    assert evaluation.code_counts(tokenizer, pictures) == []


@pytest.mark.parametrize("name", ["trellis", "trellis-dither"])
def test_a_named_trellis_has_the_bits_of_the_codebook_size(name):
    request = named.QuantizerRequest(1000, 8, 4, 0.25, 100, 10_000, 0)
    quantizer = named.quantizer(name, request)
    assert isinstance(quantizer, Trellis)
    assert quantizer.rate == pytest.approx(math.log2(1000))
    assert quantizer.holds_rate
