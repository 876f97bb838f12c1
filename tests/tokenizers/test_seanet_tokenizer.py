"""An audio tokenizer whose encoder is a network: pieces, rates, lengths, what is saved, and files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from codebound import codec
from codebound.codec import SoundModel, SoundWriter, load_sound_model
from codebound.codec.sounds import sound_indices
from codebound.data.sound_pack import packed_sounds
from codebound.errors import InputError
from codebound.sound.frames import FrameCode, ResidualCode
from codebound.sound.resampling import LOUDEST
from codebound.tokenizers import AudioTokenizer
from codebound.tokenizers.audio_config import SeanetConfig
from codebound.tokenizers.audio_streams import LATENT_UNIT

STAGES, SIZE, DIM = 3, 32, 8


def made(sample_rate: int, strides: tuple[int, ...], causal: bool) -> AudioTokenizer:
    """A network with random weights, with codebooks of its own latents."""
    torch.manual_seed(0)
    config = SeanetConfig(channels=4, strides=strides, causal=causal)
    books = np.random.default_rng(0).integers(-127, 128, (STAGES, SIZE, DIM)).astype(np.int8)
    code = ResidualCode(books, np.array([20, 10, 5], dtype=np.int32))
    return AudioTokenizer(code, sample_rate=sample_rate, network=config, block=12).eval()


CASES = [
    (16_000, (2, 4, 5, 8), True),
    (16_000, (2, 4, 5, 8), False),
    (24_000, (3, 4, 5, 8), True),
    (44_100, (3, 6, 7, 7), False),
    (44_100, (3, 6, 7, 7), True),
]


@pytest.fixture(params=CASES, ids=str)
def tokenizer(request: pytest.FixtureRequest) -> AudioTokenizer:
    return made(*request.param)


def sound(samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (0.3 * torch.randn(1, samples, generator=generator)).clamp(-1, 1)


@pytest.mark.parametrize("piece", [1, 7, 320, 4001])
def test_pieces_are_the_whole(piece: int) -> None:
    for causal in (True, False):
        tokenizer = made(16_000, (2, 4, 5, 8), causal)
        wave = sound(9000)
        indices = tokenizer.encode(wave)
        encoder, decoder = tokenizer.encoder(), tokenizer.decoder()
        frames = np.concatenate([*(encoder.push(part) for part in wave[0].split(piece)), encoder.flush()])
        assert np.array_equal(frames, indices[0].numpy())
        parts = np.array_split(frames, max(len(frames) * 320 // piece, 1))
        samples = np.concatenate([*(decoder.push(part) for part in parts), decoder.flush()])
        assert np.array_equal(samples[:9000], tokenizer.decode(indices, samples=9000)[0].numpy())


def test_blocks_are_the_network_over_all(tokenizer: AudioTokenizer) -> None:
    """What comes block by block is what the network makes of the whole at once, silence around it, but for rounding."""
    network, hop, frames = tokenizer.seanet, tokenizer.hop, 40
    assert network is not None
    whole = torch.round(sound(frames * hop) * LOUDEST)
    analysis = tokenizer.analysis()
    z = np.concatenate([analysis.push(whole[0].double().numpy()), analysis.flush()])
    around = network.encoded
    with torch.no_grad():
        x = torch.nn.functional.pad(whole / LOUDEST, (around.before * hop, around.after * hop))
        expected = network.encode(x)[0, around.before : around.before + frames]
        assert np.abs(z / LATENT_UNIT - expected.numpy()).max() < 1e-3

        indices = tokenizer.encode(whole / LOUDEST)
        latents = torch.from_numpy(tokenizer.frame_code.decode(indices[0].numpy())).float()
        padded = torch.nn.functional.pad(latents, (0, 0, *network.decoded))[None]
        inner = network.decode(padded / LATENT_UNIT)[0, network.decoded.before * hop :][: frames * hop]
        assert torch.allclose(tokenizer.decode(indices)[0], inner, atol=1e-5)


def test_what_a_causal_one_hears_comes_in_time() -> None:
    """An index needs no sample after its hop: what comes later changes no earlier frame."""
    tokenizer = made(16_000, (2, 4, 5, 8), causal=True)
    wave = sound(40 * 320)
    other = wave.clone()
    other[0, 25 * 320 :] = 0
    assert torch.equal(tokenizer.encode(wave)[:, :25], tokenizer.encode(other)[:, :25])


def test_every_length_and_other_rates(tokenizer: AudioTokenizer) -> None:
    hop, rate = tokenizer.hop, tokenizer.sample_rate
    for samples in (1, hop - 1, hop, hop + 1, 12 * hop, 12 * hop + 1, 30 * hop - 1):
        indices = tokenizer.encode(sound(samples))
        assert indices.shape == (1, tokenizer.frames_of(samples), STAGES)
        assert tokenizer.samples_of(indices.shape[1]) >= samples
        assert tokenizer.decode(indices, samples=samples).shape == (1, samples)
    wave = sound(20_000)
    indices = tokenizer.encode(wave, 48_000)
    assert indices.shape[1] == tokenizer.frames_of(-(-20_000 * rate // 48_000))
    again = tokenizer.decode(indices[..., :1], samples=20_000, sample_rate=48_000)
    assert again.shape == (1, 20_000)
    assert again.isfinite().all()


def test_a_batch_is_its_rows(tokenizer: AudioTokenizer) -> None:
    waves = torch.cat([sound(5000, seed) for seed in range(3)])
    together = tokenizer.encode(waves)
    assert len(together.unique()) > SIZE // 2
    assert torch.equal(together, torch.cat([tokenizer.encode(row[None]) for row in waves]))
    alone = torch.cat([tokenizer.decode(row[None]) for row in together])
    assert torch.equal(tokenizer.decode(together), alone)


def test_saved_and_loaded(tokenizer: AudioTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "model")
    again = AudioTokenizer.from_pretrained(tmp_path / "model")
    assert again.config() == tokenizer.config()
    wave = sound(7000)
    indices = tokenizer.encode(wave)
    assert torch.equal(again.encode(wave), indices)
    assert torch.equal(again.decode(indices), tokenizer.decode(indices))
    one, other = (load_sound_model(tmp_path / "model").digest() for _ in range(2))
    assert one == other


@pytest.mark.parametrize("piece", [1000, 4001])
def test_a_file_and_back(tokenizer: AudioTokenizer, piece: int) -> None:
    model, rate, samples = SoundModel(tokenizer), 22_050, 5 * 22_050 + 3
    whole = np.rint(np.random.default_rng(0).normal(0, 4000, (2, samples)))
    writer = SoundWriter(rate, 2, model=model)
    parts = [writer.push(part) for part in np.split(whole, range(piece, samples, piece), axis=1)]
    data = b"".join(parts) + writer.finish()
    encoder = tokenizer.encoder(rate, beam=4)
    first = np.concatenate([encoder.push_whole(whole[0]), encoder.flush()])
    assert np.array_equal(sound_indices(data, model)[0], first)
    assert codec.verify_sound(data, model=model) == 2 * first.size

    # All of it, and a part: the same samples.
    decoded = codec.decompress_sound(data, model=model)
    blocks = np.concatenate(list(decoded.blocks))
    assert blocks.shape == (samples, 2)
    part = codec.decompress_sound(data, model=model, start=3.3, end=4.1)
    inner = np.concatenate(list(part.blocks))
    assert np.array_equal(inner, blocks[round(3.3 * rate) : round(4.1 * rate)])


def test_a_recording(tmp_path: Path) -> None:
    tokenizer = made(16_000, (2, 4, 5, 8), causal=True)
    found = codec.compress_sound(packed_sounds()[0], model=SoundModel(tokenizer), bitrate=0.5)
    assert codec.inspect_sound(found.data).stages == 2
    assert codec.decompress_sound(found.data, model=SoundModel(tokenizer)).samples == found.samples


def test_codes_are_named_by_all_that_decides_them() -> None:
    """The same weights, causal or not, give other indices: other codes."""
    one, other = (made(16_000, (2, 4, 5, 8), causal) for causal in (True, False))
    other.load_state_dict(one.state_dict())
    assert not torch.equal(one.encode(sound(9000)), other.encode(sound(9000)))
    assert one.code_digest() != other.code_digest()
    assert one.code_digest() == made(16_000, (2, 4, 5, 8), True).code_digest()


def test_a_precision_around_it_changes_nothing(tokenizer: AudioTokenizer) -> None:
    wave = sound(9000)
    indices = tokenizer.encode(wave)
    decoded = tokenizer.decode(indices)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(tokenizer.encode(wave), indices)
        assert torch.equal(tokenizer.decode(indices), decoded)


def test_what_does_not_fit_is_refused() -> None:
    config = made(16_000, (2, 4, 5, 8), True).config()
    for wrong, said in (
        ({"hop": 160}, "hop is not accepted: .*the strides' product is 320, not 160"),
        ({"block": 4}, "block is 4; this network looks at 8 frames"),
        ({"network": {"kind": "other"}}, "network"),
        ({"network": {**config["network"], "width": 3}}, "network.*width"),
        ({"dim": 129}, "dim is not accepted"),
    ):
        with pytest.raises(InputError, match=said):
            AudioTokenizer.from_config({**config, **wrong})
    books, steps = np.ones((1, 2, 4), dtype=np.int8), np.ones(1, dtype=np.int32)
    transform = FrameCode(8, np.ones(8, dtype=np.float32), np.zeros((8, 4), dtype=np.int16), books, steps)
    with pytest.raises(InputError, match="code has a transform"):
        AudioTokenizer(transform, network=SeanetConfig())
    with pytest.raises(InputError, match="code is a ResidualCode"):
        AudioTokenizer(ResidualCode(books, steps))
    with pytest.raises(InputError, match=r"code is a FrameCode.*a ResidualCode with \(3, 32, 8\)"):
        made(16_000, (2, 4, 5, 8), True).take_code(transform)
