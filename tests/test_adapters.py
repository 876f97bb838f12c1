"""Small random models of each class of transformers' neural codecs, with files and a prior."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from codebound.adapters import CONTEXT, CodecAdapter
from codebound.codec import CodecError, WrongModel
from codebound.errors import InputError
from codebound.priors.frame_fitting import FrameFitSettings

RATE = 16_000
GOLDEN = Path(__file__).parent / "codec" / "golden_sounds" / "model"
COMMON = {"codebook_size": 32, "sampling_rate": RATE}


def encodec() -> Any:
    import transformers  # an extra that `make test-slow` installs

    config = transformers.EncodecConfig(
        num_filters=4, hidden_size=16, codebook_dim=16, num_residual_layers=1, upsampling_ratios=[4, 4, 2, 2],
        num_lstm_layers=1, target_bandwidths=[1.5, 3.0], **COMMON,
    )  # fmt: skip
    model = transformers.EncodecModel(config)
    for layer in model.quantizer.layers:  # they begin as zeros
        torch.nn.init.normal_(layer.codebook.embed)
    return model


def dac() -> Any:
    import transformers

    config = transformers.DacConfig(
        encoder_hidden_size=4, downsampling_ratios=[2, 4, 4], decoder_hidden_size=16, upsampling_ratios=[4, 4, 2],
        n_codebooks=3, codebook_dim=4, **COMMON,
    )  # fmt: skip
    return transformers.DacModel(config)


def mimi() -> Any:
    import transformers

    config = transformers.MimiConfig(
        num_filters=4, hidden_size=16, codebook_dim=8, vector_quantization_hidden_dimension=8, num_quantizers=4,
        num_semantic_quantizers=1, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8,
        intermediate_size=16, upsampling_ratios=[4, 4, 2, 2], frame_rate=125.0, upsample_groups=16, use_cache=False,
        **COMMON,
    )  # fmt: skip
    model = transformers.MimiModel(config)
    for name, buffer in model.named_buffers():
        if name.endswith("embed_sum"):
            torch.nn.init.normal_(buffer)
    return model


def tone(samples: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(0.3 * np.sin(np.arange(samples) / 9) + 0.05 * rng.normal(size=samples)).float()


@pytest.mark.slow
@pytest.mark.parametrize("make", [encodec, dac, mimi])
def test_files_with_a_fitted_prior(make, tmp_path: Path) -> None:
    torch.manual_seed(0)
    adapter = CodecAdapter(make())
    wave = tone(3 * RATE + 77)
    expected = adapter.encode(wave)
    bare = adapter.compress(wave)
    assert np.array_equal(adapter.indices(bare), expected)

    # With a prior files are smaller, the indices are the same, and the sound is what the model makes of these.
    adapter.fit_prior([tone(6 * RATE, seed=1)], FrameFitSettings(steps=60, hidden=16, batch_size=4))
    data = adapter.compress(wave)
    assert len(data) < len(bare)
    assert np.array_equal(adapter.indices(data), expected)
    assert torch.equal(adapter.decompress(data), adapter.decode(expected, len(wave)))
    assert adapter.decompress(data).shape == wave.shape

    # The prior in a folder serves another process; another model, or none, is refused.
    adapter.save_prior(tmp_path)
    other = CodecAdapter(adapter.model)
    with pytest.raises(WrongModel):
        other.indices(data)
    other.load_prior(tmp_path)
    assert np.array_equal(other.indices(data), expected)
    torch.manual_seed(1)
    with pytest.raises(WrongModel):
        CodecAdapter(make()).indices(data)


@pytest.mark.slow
def test_damage_is_found() -> None:
    torch.manual_seed(0)
    adapter = CodecAdapter(dac())
    data = bytearray(adapter.compress(tone(RATE)))
    data[len(data) // 2] ^= 4
    with pytest.raises(CodecError):
        adapter.decompress(bytes(data))


@pytest.mark.slow
def test_sounds_that_are_refused() -> None:
    adapter = CodecAdapter(dac())
    with pytest.raises(InputError, match="no samples"):
        adapter.encode(torch.zeros(0))
    with pytest.raises(InputError, match="a prior needs"):
        adapter.fit_prior([tone(500)])


class DacModel(torch.nn.Module):
    """What an adapter takes for a model of transformers before it calls it."""

    config = SimpleNamespace(sampling_rate=RATE, codebook_size=32, hop_length=32)


def test_models_that_are_refused() -> None:
    with pytest.raises(InputError, match="model is a Linear"):
        CodecAdapter(torch.nn.Linear(2, 2))


def test_there_is_no_prior_yet() -> None:
    with pytest.raises(CodecError, match="no prior yet"):
        CodecAdapter(DacModel()).save_prior("nowhere")


@pytest.mark.parametrize("damaged", ["cut", "other", "bare"])
def test_a_damaged_context_is_refused(tmp_path: Path, damaged: str) -> None:
    """Its prior is whole; an adapter that refuses takes up neither."""
    for name in ("prior.json", "prior.safetensors"):
        shutil.copy(GOLDEN / name, tmp_path)
    whole = save({"codebooks": np.zeros((4, 16, 8), dtype=np.int8), "steps": np.ones(4, dtype=np.int32)})
    flat = save({"codebooks": np.zeros(4, dtype=np.int8), "steps": np.ones(4, dtype=np.int32)})
    context = {"cut": whole[:-40], "other": b"no safetensors file", "bare": flat}[damaged]
    (tmp_path / CONTEXT).write_bytes(context)
    adapter = CodecAdapter(DacModel())
    with pytest.raises(InputError, match=f"{CONTEXT} can't be read"):
        adapter.load_prior(tmp_path)
    assert adapter.prior is None
    (tmp_path / CONTEXT).write_bytes(whole)
    adapter.load_prior(tmp_path)
    assert adapter.prior is not None
