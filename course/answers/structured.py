"""Worked answers to chapter 10: codes with structure."""

import math

import torch


def stored_numbers(kind, codewords, dim, parts):
    """One table; parts tables of shorter words; parts tables of whole words."""
    return {"one": codewords * dim, "product": codewords * dim, "residual": parts * codewords * dim}[kind]


def product_distortion(distortions):
    """Squared errors of the parts of a vector add up."""
    return sum(distortions)


def stages_needed(share_left, target):
    """The least m with share^m ≤ target; a little room for rounding."""
    return math.ceil(math.log(target) / math.log(share_left) - 1e-9)


def residual_quantize(z, codebooks):
    """Each stage takes the codeword nearest to what is left, and leaves the rest."""
    rest, indices = z, []
    for book in codebooks:
        index = torch.cdist(rest, book).argmin(1)
        rest = rest - book[index]
        indices.append(index)
    return torch.stack(indices, dim=1), z - rest


def beam_quantize(z, codebooks, width):
    """The best `width` partial sums of each vector; with the greedy one always among them as well."""
    n = len(z)
    rests = z[:, None]  # [n, beam, d]
    paths = torch.zeros(n, 1, 0, dtype=torch.long)
    for book in codebooks:
        errors = (rests[:, :, None] - book).square().sum(-1)  # [n, beam, K]
        kept = errors.flatten(1).topk(min(width, errors[0].numel()), largest=False).indices
        came, word = kept // len(book), kept % len(book)
        rests = torch.gather(rests, 1, came[..., None].expand(-1, -1, z.shape[1])) - book[word]
        paths = torch.gather(paths, 1, came[..., None].expand(-1, -1, paths.shape[2]))
        paths = torch.cat([paths, word[..., None]], dim=2)
    indices = paths[torch.arange(n), rests.square().sum(-1).argmin(1)]
    greedy, _ = residual_quantize(z, codebooks)

    def total(chosen):
        return sum(book[chosen[:, i]] for i, book in enumerate(codebooks))

    worse = (z - total(indices)).square().sum(1) > (z - total(greedy)).square().sum(1)
    indices = torch.where(worse[:, None], greedy, indices)
    return indices, total(indices)
