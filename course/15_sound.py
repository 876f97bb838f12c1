# %% [markdown]
# # 15. Sound
#
# Wide-band speech is 16,000 numbers a second, twice a telephone's, and 256 kbit/s at 16 bits. Codecs send it at 6. That
# is 0.375 bit for a number, so numbers can't be coded one by one (chapter 1). Four ideas bridge the gap:
#
# 1. a **transform**, after which most numbers are nearly zero;
# 2. noise that follows the **signal**, as ears hear it there least;
# 3. **vectors**: a frame of sound is one point of a space, and residual codebooks (chapter 10) give it an index each;
# 4. a **prior** over those indices (chapter 14).
#
# ## What a transform gains
#
# Give component $i$ of variance $\sigma_i^2$ a rate $R_i$; at high rate its error is $D_i = c\,\sigma_i^2\,4^{-R_i}$
# (chapter 1). Which $R_i$ make $\tfrac1N\sum D_i$ smallest at a given mean rate $R$? The geometric mean of the $D_i$ is
# $c\,\bigl(\prod\sigma_i^2\bigr)^{1/N}4^{-R}$, however the rate is split; and an arithmetic mean is smallest, for a
# given geometric one, where all $D_i$ are equal (chapter 3: the water level). So
#
# $$D_{\text{transform}} = c\,\Bigl(\prod_i\sigma_i^2\Bigr)^{1/N} 4^{-R} .$$
#
# Samples of one stream all have the same variance, the mean $\tfrac1N\sum\sigma_i^2$, as an orthonormal transform
# changes no sum of squares. The **coding gain** is the ratio of the two means, in dB
# $10\log_{10}\bigl(\tfrac1N\sum\sigma_i^2 \big/ (\prod\sigma_i^2)^{1/N}\bigr)$. It is never negative, and 0 only for a
# flat spectrum.
#
# ## A transform whose blocks overlap
#
# A block transform leaves seams: each block is quantized without its neighbour, and the error jumps between them, 50
# times a second, which is heard as a buzz. The **MDCT** takes $2N$ samples under a window $w$, every $N$ samples:
#
# $$X_k = \sqrt{\tfrac2N}\sum_{n=0}^{2N-1} w_n x_n \cos\Bigl(\tfrac{\pi}{N}\bigl(n+\tfrac12+\tfrac N2\bigr)\bigl(k+\tfrac12\bigr)\Bigr),\qquad k = 0,\dots,N-1 .$$
#
# $2N$ numbers become $N$, so a frame alone can't come back. Call the windowed frame's quarters $(a, b, c, d)$, and
# $a_r$ a quarter backwards. The cosine is odd about $n = \tfrac N2 - \tfrac12$ and even about $n = \tfrac{3N}{2} - \tfrac12$,
# so $X$ is an orthonormal transform (the DCT-IV) of the folded frame $(-c_r - d,\; a - b_r)$, and its transpose gives
#
# $$(a - b_r,\; b - a_r,\; c + d_r,\; d + c_r):$$
#
# the frame, and its halves mirrored on top. Window it again and add it to the frame before, whose last half is the
# same samples with mirrors of the *other* sign. With a symmetric window the mirrors cancel, and $x$ stays times
# $w_n^2 + w_{n+N}^2$. So any window with $w_n^2 + w_{n+N}^2 = 1$, such as a sine's half wave, gives the samples back.

# %%
import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch
from scipy.fft import dct, idct

from codebound import Residual, VectorQuantizer
from codebound.data.sound_pack import packed_sounds
from codebound.metrics.sound import mel_distance, si_sdr
from codebound.tokenizers import AudioTokenizer

RATE, N = 16_000, 320  # 50 frames a second
clips = {path.stem: soundfile.read(path)[0] for path in packed_sounds() if path.stem[:3] in ("it_", "ru_")}
held_out = ("it_vm-forward-multiple", "ru_vm-forward")

n, k = np.arange(2 * N), np.arange(N)
window = np.sin(np.pi / (2 * N) * (n + 0.5))
basis = np.sqrt(2 / N) * np.cos(np.pi / N * (n[:, None] + 0.5 + N / 2) * (k + 0.5)) * window[:, None]


def mdct(x):
    """Frames of N coefficients; the sound is framed by silence, so that each sample lies in two frames."""
    padded = np.concatenate([np.zeros(N), x, np.zeros(-len(x) % N + N)])
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * N)[::N] @ basis


def inverse(frames, samples):
    out = np.zeros((len(frames) + 1) * N)
    for i, frame in enumerate(frames @ basis.T):
        out[i * N : (i + 2) * N] += frame
    return out[N : N + samples]


x = clips["ru_vm-forward"]
print(f"largest error of transform and back: {np.abs(inverse(mdct(x), len(x)) - x).max():.0e}")

# %%
power = mdct(x) ** 2
loud = power[power.mean(1) > 1e-3 * power.mean()]
long_term = power.mean(0)


def gain(variances):
    return 10 * np.log10(variances.mean(-1) / np.exp(np.log(variances).mean(-1)))


smooth = np.stack([loud[:, i : i + 8].mean(1) for i in range(0, N, 8)], 1)  # 40 bands: a spectrum's shape
print(f"coding gain of the mean spectrum:       {gain(long_term):.1f} dB")
print(f"of each frame's own spectrum, the mean: {gain(smooth).mean():.1f} dB")

# %% [markdown]
# 6 dB are a bit a sample (chapter 1). What is in one frame's spectrum and not in the mean one must be sent, by whatever
# code: as numbers beside the frame, or, as here, in the choice of a codeword.
#
# Now the seams. The same signal, the same number of values, 9 of 10 set to zero:

# %%
# Figure: Jumps of the error between neighbouring samples, by their place in a block of 320: blocks have seams.


def largest_kept(coefficients, share=0.1):
    return np.where(np.abs(coefficients) >= np.quantile(np.abs(coefficients), 1 - share), coefficients, 0)


whole = len(x) // N * N
blocks = idct(largest_kept(dct(x[:whole].reshape(-1, N), norm="ortho")), norm="ortho").ravel()
lapped = inverse(largest_kept(mdct(x)), len(x))[:whole]
for name, decoded in (("blocks, DCT", blocks), ("overlapping, MDCT", lapped)):
    jumps = np.diff(decoded - x[:whole], append=0).reshape(-1, N) ** 2
    plt.plot(np.roll(np.sqrt(jumps.mean(0)), N // 2), label=name)
    print(
        f"{name:18s} SNR {10 * np.log10(np.mean(x[:whole] ** 2) / np.mean((decoded - x[:whole]) ** 2)):.1f} dB"
    )
plt.xlabel("place, the seam in the middle")
plt.ylabel("rms jump of the error")
plt.legend()

# %% [markdown]
# ## Noise where the sound is
#
# Squared error wants the same noise in every coefficient. Ears do not: a loud sound **masks** noise near its own
# frequency, so what counts is nearly the ratio of noise to signal in each band. Bring the coefficients to a power
# $p < 1$ first, $y = \operatorname{sign}(x)\,|x|^p$, quantize $y$ with step $\Delta$, and go back. An error $\delta$ of
# $y$ is one of $x$ of
#
# $$\delta\,\frac{dx}{dy} = \frac{\delta}{p}\,|x|^{1-p}, \qquad\text{so the noise has variance}\quad \frac{\Delta^2}{12\,p^2}\,|x|^{2-2p}.$$
#
# $p = 1$ is plain squared error; with $p \to 0$ (a logarithm) the ratio is the same everywhere, and bits go to what
# nobody hears. Coders of music take $p = 3/4$, this package's coder of speech $5/8$. At one bit a coefficient each,
# judged by squared error, and by a distance of logarithms of spectra, which is nearer to an ear:

# %%
# Figure: One bit a coefficient, by the power: squared error wants 1, the distance of spectra a power between.
coefficients = mdct(x)


def companded(c, p, step):
    y = np.sign(c) * np.abs(c) ** p
    index = np.round(y / step)
    return index, np.sign(index) * (np.abs(index) * step) ** (1 / p)


def step_for(p, bits):
    """By halving: the step at which the indices' entropy is so many bits."""
    low, high = 1e-6, 1.0
    for _ in range(40):
        step = np.sqrt(low * high)
        counts = np.unique(companded(coefficients, p, step)[0], return_counts=True)[1] / coefficients.size
        low, high = (step, high) if -(counts * np.log2(counts)).sum() > bits else (low, step)
    return step


def as_batch(sound):
    return torch.tensor(sound, dtype=torch.float32)[None]


powers = [1.0, 0.9, 0.8, 0.75, 0.7, 0.625, 0.55, 0.5, 0.4]
snr, spectral = [], []
for p in powers:
    decoded = companded(coefficients, p, step_for(p, 1.0))[1]
    snr.append(10 * np.log10((coefficients**2).mean() / ((coefficients - decoded) ** 2).mean()))
    spectral.append(float(mel_distance(as_batch(x), as_batch(inverse(decoded, len(x))), RATE)))
    if p in (1.0, 0.75, 0.625, 0.4):
        print(f"p = {p:5g}: SNR {snr[-1]:4.1f} dB, log-mel distance {spectral[-1]:.3f}")
_, (left, right) = plt.subplots(1, 2)
left.plot(powers, snr, "o-")
left.set_ylabel("SNR, dB")
right.plot(powers, spectral, "o-", color="#d6336c")
right.set_ylabel("log-mel distance")
for axis in (left, right):
    axis.set_xlabel("power p")

# %% [markdown]
# ## A frame is a vector
#
# Companded frames are points of 320 dimensions, and most of their variance lies in few: take the principal axes (the
# best linear code of a Gaussian, chapter 3), and quantize there with residual codebooks. Each stage adds an index to
# every frame, so one stream serves all rates: whoever reads fewer stages gets less quality.
#
# $$\text{bits a second} = \frac{\text{sample rate}}{N}\times\text{stages}\times\log_2 K$$
#
# Two sentences of each of two voices teach it; a third of each is held out. Such a codebook flatters itself (chapter
# 2), and each later stage, whose input looks more like noise, more:

# %%
# Figure: SNR of the companded frames by stages: on the sentences that the codebooks were fitted to, and on others.
torch.manual_seed(0)


def latents(names):
    frames = np.concatenate([mdct(clips[name]) for name in names])
    return torch.tensor(np.sign(frames) * np.abs(frames) ** 0.625, dtype=torch.float32)


learned = latents([name for name in clips if name not in held_out])
others = latents(held_out)
mean = learned.mean(0)
axes = torch.linalg.svd(learned - mean, full_matrices=False)[2][:32]
parts = {"fitted to": (learned - mean) @ axes.T, "held out": (others - mean) @ axes.T}
rvq = Residual([VectorQuantizer(32, 64) for _ in range(8)])
rvq.init_(parts["fitted to"])
rvq.eval()
stages = range(1, 9)
for name, z in parts.items():
    indices = rvq.encode(z)
    errors = [float((z - rvq.decode(indices[:, :q])).square().sum(1).mean()) for q in stages]
    snr = [10 * np.log10(float(z.square().sum(1).mean()) / error) for error in errors]
    plt.plot(stages, snr, "o-", label=name)
    print(f"{name:9s}: {snr[0]:.1f} dB with one stage, {snr[-1]:.1f} with eight")
print(f"eight stages: {RATE / N * 8 * np.log2(64) / 1000:.1f} kbit/s")
plt.xlabel("stages")
plt.ylabel("dB")
plt.legend()

# %% [markdown]
# ## What a waveform's error does not see
#
# How near is one sound to another? A delay of half a millisecond is no difference to anyone, and to a squared error a
# disaster: at 1 kHz it is half a period. So codecs are trained and judged by **spectra** as well: magnitudes of short
# windows, on a scale of pitch (mel), in logarithms.

# %%
clean = as_batch(x)
rng = np.random.default_rng(0)
white = rng.normal(size=len(x)) * x.std() / 10
shaped = inverse(coefficients * (1 + rng.normal(size=coefficients.shape) / 2), len(x))
cases = {
    "half as loud": clean / 2,
    "half a millisecond late": torch.roll(clean, 8, 1),
    "upside down": -clean,
    "white noise": as_batch(x + white),
    "noise along the spectrum": as_batch(shaped),
}
print(f"{'':27s} SI-SDR, dB   log-mel distance")
for name, y in cases.items():
    print(f"{name:27s} {float(si_sdr(clean, y)[0]):8.1f}   {float(mel_distance(clean, y, RATE)):12.3f}")

# %% [markdown]
# Neither figure is right alone. SI-SDR calls half a millisecond worse than either noise, and minds neither loudness nor
# sign. The distance of spectra calls white noise at 20 dB far worse than noise at 6 dB that stays where the sound is:
# white noise fills the pauses, where logarithms are small. PESQ, STOI and ViSQOL model ears; `codebound study sound`
# reports them beside both.
#
# ## While it comes
#
# An index needs its window: $2N$ samples, 40 ms here. A decoder that looks at frames to come adds their time. A codec
# is **causal** if nothing else is needed, and then pushing samples in pieces gives the same indices as the whole:
# that is tested exactly ([sound](../sound.md#in-python)).
#
# The tokenizer in the package is made of these parts, in whole numbers from samples to indices, so that the same sound
# has the same file on every machine; a network makes samples of what the indices say.

# %%
# Figure: A held-out sentence, and what 3 and 16 stages of the packaged tokenizer keep of it (0 to 8 kHz, 1.5 seconds).
tokenizer = AudioTokenizer.from_pretrained("default-speech")
indices = tokenizer.encode(clean, RATE)
print("indices:", tuple(indices.shape), f"{tokenizer.sample_rate / tokenizer.hop:.0f} frames a second")
_, axes = plt.subplots(1, 3, sharey=True)
shown = {
    "original": clean,
    **{f"{q} stages": tokenizer.decode(indices[..., :q], samples=len(x)) for q in (3, 16)},
}
for axis, (name, sound) in zip(axes, shown.items()):
    frames = mdct(sound[0].detach().numpy()[: RATE * 3 // 2])
    axis.imshow(np.log10(frames.T**2 + 1e-7), origin="lower", aspect="auto", vmin=-6, vmax=0)
    axis.set_title(name)
    axis.axis("off")

# %% [markdown]
# ## Questions
#
# `codebound course check sound my_answer.py`
#
# 1. *Understanding.* `bits_per_second(sample_rate, hop, stages, codebook_size)`: the nominal rate.
# 2. *Extension.* `scale_invariant_sdr(reference, decoded)`: energy of the part of `decoded` along the reference over
#    that of the rest, in dB.
# 3. *Theory.* `coding_gain_db(variances)`: what an orthonormal transform to components of these variances gains.
# 4. *Implementation.* `lapped(x, hop)`: MDCT coefficients of a signal of a whole number of hops, with a sine window,
#    as above (silence of one hop before and after): `[hops + 1, hop]`.
# 5. *Research.* `noise_by_masks(variances, masks, bits)`: the noise in each component that makes the sum of noise over
#    mask smallest at so many bits in all.
