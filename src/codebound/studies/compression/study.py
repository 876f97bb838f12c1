"""The declaration of the study: one cell per picture, and one for what the indices cost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import PIL
from pydantic import Field

from codebound import config
from codebound.codec import other_codecs
from codebound.codec.model import DEFAULT, Model, default_model, load_model
from codebound.codec.rates import ladder
from codebound.codec.token_pictures import choose_indices
from codebound.data.images import Photograph, load_image_folder, photographs
from codebound.reporting import stock_figures
from codebound.studies.compression import ENTRY, codecs
from codebound.studies.compression.codecs import OURS, TOKENS, WAVELETS
from codebound.studies.compression.comparison import CodecResult, compare
from codebound.studies.framework import declare as fw
from codebound.wavelet.model import default_wavelet_model

LADDER = "ladder"
PICTURE_KEYS = ("name", "height", "width", "points")
LOOKS = {
    OURS: fw.Look("codebound", "#0b63a5", emphasis=True),
    WAVELETS: fw.Look("codebound’s wavelets", "#5b8fb9"),
    TOKENS: fw.Look("codebound’s tokens", "#5b8fb9"),
    "jpeg": fw.Look("JPEG", "#c2410c"),
    "webp": fw.Look("WebP", "#117733"),
    "avif": fw.Look("AVIF", "#7a3fa0"),
    "jxl": fw.Look("JPEG XL", "#8a6100"),
}
MODES = {  # ways to write an index, from the plainest on: name, colour
    "raw": ("raw", "#c9ced6"),
    "zlib": ("zlib -9", "#a7b0bc"),
    "xz": ("xz", "#8a94a2"),
    "adaptive": ("adaptive counts", "#e2b07a"),
    "context": ("context counts", "#d97f3d"),
    "network": ("prior and contexts", "#0b63a5"),
}


class Settings(config.Settings):
    """All that decides the study's numbers but the pictures themselves and the versions of the codecs."""

    data: str = "photos"  # the embedded held-out photographs, or a folder
    model: str = ""  # a tokenizer's folder; by default the one in the package
    ours: Literal["wavelets", "tokens"] = "wavelets"  # which of our kinds of file is compared with the others
    trade: float | None = Field(default=None, ge=0, allow_inf_nan=False)  # of codebound compress
    codecs: tuple[Literal["jpeg", "webp", "avif", "jxl"], ...] = ("jpeg", "webp", "avif")  # jxl: an extra
    most: int = Field(default=32, ge=1)  # pictures
    rate: float = Field(default=0.1, gt=0)  # bits per pixel at which all are compared


class Compression(fw.Study[Settings]):
    """Our files of photographs that the model never saw, beside those of other codecs."""

    entry, settings, unit, repeats = ENTRY, Settings, "pictures", "picture"
    metrics = (
        fw.Metric("bytes", "Size", "bytes", better="less"),
        fw.Metric("bits_per_pixel", "Rate", "bits per pixel", better="less"),
        fw.Metric("psnr", "PSNR", "dB", better="more", digits=2),
        fw.Metric("ssim", "SSIM", better="more", digits=3),
        fw.Metric("encode_s", "Encoding", "s", better="less"),
        fw.Metric("decode_s", "Decoding", "s", better="less"),
        fw.Metric("bits_per_index", "Cost of an index", "bits", better="less"),
    )

    def prepare(self, settings: Settings) -> Mapping[str, str]:
        other_codecs.check(settings.codecs)
        pictures, model = open_pictures(settings), open_model(settings)
        content = b"".join(f"{p.name} {p.pixels.shape}".encode() + p.pixels.tobytes() for p in pictures)
        waves = default_wavelet_model().digest.hex()
        digests = {
            "model": model.digest().hex(),
            "wavelets": waves,
            "pictures": hashlib.sha256(content).hexdigest()[:12],
        }
        return {**digests, "tradeoff": repr(model.tradeoff), "pillow": PIL.__version__}

    def cells(self, settings: Settings) -> list[fw.Cell]:
        count = len(open_pictures(settings))
        each = [fw.Cell(f"picture-{number:03d}", {"picture": number}) for number in range(count)]
        return [*each, fw.Cell(LADDER, {}, aside=True)]

    def measure(self, settings: Settings, cell: fw.Cell) -> dict[str, Any]:
        pictures, model = open_pictures(settings), open_model(settings)
        if cell.name == LADDER:
            levels = model.qualities[-1]
            grids = [choose_indices(picture.pixels, model, levels, settings.trade) for picture in pictures]
            files = (Path(settings.model) if settings.model else DEFAULT).iterdir()
            size = sum(file.stat().st_size for file in files if file.suffix in (".safetensors", ".json"))
            return {"rows": ladder(model, grids), "decoder_bytes": size}  # beside the program
        picture = pictures[cell["picture"]]
        height, width = picture.pixels.shape[:2]
        rows = [
            p._asdict()
            for p in codecs.points(picture.pixels, settings.codecs, model, settings.trade, settings.ours)
        ]
        return {"name": picture.name, "height": height, "width": width, "points": rows}

    def records(self, run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
        for finished in run.cells.values():
            for point in finished.get("points", ()):
                levels = {"codec": point["codec"], "quality": point["quality"], **finished.cell.factors}
                yield fw.Record(levels, {m.name: point[m.name] for m in self.metrics if m.name in point})
            for row in finished.get("rows", ()):
                for mode in ("entropy", *MODES):
                    yield fw.Record({"level": row["level"], "mode": mode}, {"bits_per_index": row.get(mode)})

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        finished = [cell for name, cell in run.cells.items() if name != LADDER]
        pictures = [{key: cell[key] for key in PICTURE_KEYS} for cell in finished]
        costs = run.cells.get(LADDER, {"rows": [], "decoder_bytes": None})
        rate, known = run.settings.rate, [costs["decoder_bytes"]] if costs["decoder_bytes"] else []
        second = TOKENS if run.settings.ours == WAVELETS else WAVELETS
        written = {point["codec"] for picture in pictures for point in picture["points"]}
        others = [name for name in (second, *run.settings.codecs) if name in written]
        rows = compare(pictures, others, rate)
        names = {cell.cell["picture"]: cell["name"] for cell in finished}
        sections = [_comparison(rows, rate), _pictures(run.table, names)]
        return fw.Content(
            "What a picture costs in bytes on disk",
            answer=_answer(rows, rate),
            sentences=[_sentence(row, rate) for row in rows[1:]],
            sections=[*sections, _costs(costs["rows"])] if costs["rows"] else sections,
            method=[
                f"{fw.count_text(len(pictures), 'picture')}, as whole files: header, checksums and all.",
                *(
                    f"A decoder of tokens needs a model of {size:,} bytes beside the program."
                    for size in known
                ),
                f"Pillow {run.record['identity']['pillow']}; model {run.record['identity']['model']}.",
            ],
            results={
                "comparison": [row.to_json() for row in rows],
                "ladder": costs["rows"],
                "decoder_bytes": costs["decoder_bytes"],
                "pictures": pictures,
            },
        )


STUDY = Compression()


def open_pictures(settings: Settings) -> list[Photograph]:
    """The pictures: none of the embedded ones was trained on."""
    pictures = photographs("held_out") if settings.data == "photos" else load_image_folder(settings.data)
    return pictures[: settings.most]


def open_model(settings: Settings) -> Model:
    """The model that is judged."""
    return load_model(settings.model) if settings.model else default_model()


def _answer(rows: Sequence[CodecResult], rate: float) -> str:
    """Who wins at the rate of the comparison, as far as these pictures tell."""
    gains = {LOOKS[row.codec].name: row.our_gain_db for row in rows[1:] if row.our_gain_db.n}
    if not gains:
        return f"No other codec has files of {rate:g} bits per pixel to compare with."
    words = (
        "closer to the picture than those of",
        "further from it than those of",
        "not told apart from those of",
    )
    return f"At {rate:g} bits per pixel the files of codebound are {fw.sides(gains, *words)} (PSNR)."


def _sentence(row: CodecResult, rate: float) -> str:
    name, change = LOOKS[row.codec].name, row.bd_rate_percent
    if row.our_gain_db.n:
        pictures = fw.count_text(row.our_gain_db.n, "picture")
        line = f"At {rate:g} bits per pixel {OURS} is {_better(row.our_gain_db)} than {name} on {pictures}"
    else:
        line = f"{name} has no files of {rate:g} bits per pixel: its smallest take {row.least_rate:.2f}"
    if not row.our_gain_db.n and row.our_gain_at_least_db.n:
        line += f", and at their sizes {OURS} is {_better(row.our_gain_at_least_db)}"
    if change.n:
        amount = f"{abs(change.mean):.0f} % {'fewer' if change.mean < 0 else 'more'}"
        line += f"; at equal PSNR it needs {amount} bits (mean of {fw.count_text(change.n, 'picture')})"
    return fw.typeset(line + ".")


def _better(gain: fw.Interval) -> str:
    return f"{abs(gain.mean):.2f} dB {'better' if gain.mean > 0 else 'worse'}"


def _comparison(rows: Sequence[CodecResult], rate: float) -> fw.Section:
    columns = [
        fw.Column("Codec", kind="text"),
        fw.Column("PSNR, dB", 2),
        fw.Column("SSIM", 3, terminal=False),
        fw.Column("codebound’s PSNR is higher by, dB", 2, kind="change", better="more"),
        fw.Column("BD rate, %", 0, kind="change", better="less"),
        fw.Column("Smallest file, bpp", 3, terminal=False),
        fw.Column("Encoding, s", 3),
        fw.Column("Decoding, s", 3),
    ]
    values = [
        [fw.Swatch(LOOKS[row.codec].colour, LOOKS[row.codec].name), row.psnr.mean, row.ssim.mean, row.our_gain_db,
         row.bd_rate_percent, row.least_rate, row.encode_s, row.decode_s]
        for row in rows
    ]  # fmt: skip
    note = (
        "Interpolated between a codec's files on the logarithm of the rate, over the pictures of which it has files on "
        "both sides; in brackets 95 % intervals over pictures. BD rate: Bjøntegaard's mean difference in rate at equal "
        "PSNR, where curves overlap by 1 dB or more; below 0, codebound needs fewer bits."
    )
    title = f"At {rate:g} bits per pixel"
    return fw.Section(title, tables=[fw.ResultTable(title, columns, values, note)])


def _pictures(table: fw.LongTable, names: Mapping[int, str]) -> fw.Section:
    draw = partial(
        stock_figures.rate_distortion, table, "bits_per_pixel", series="codec", panel="picture", looks=LOOKS,
        titles=names, rates=(0.02, 1.2),
    )  # fmt: skip
    figures = [
        fw.Illustration(m, partial(draw, quality=m), f"{m.upper()} against the rate, a panel per picture")
        for m in ("psnr", "ssim")
    ]
    text = "Further up and to the left is better. A tokenizer's points are the levels written."
    return fw.Section("Each picture", text, figures)


def _costs(rows: Sequence[Mapping[str, Any]]) -> fw.Section:
    """Bits per index of each level, in every way to write it."""
    modes = [mode for mode in MODES if mode in rows[0]]
    levels = [str(row["level"] + 1) for row in rows]
    heights = {MODES[mode][0]: [row[mode] for row in rows] for mode in modes}
    entropy = ("index entropy, order 0", [row["entropy"] for row in rows])
    draw = partial(
        stock_figures.bars, levels, heights, title="What an index costs, held-out pictures", axis="level",
        unit="bits per index", colours=dict(MODES.values()), limits=entropy,
    )  # fmt: skip
    text = (
        "Bits per index without headers, of the indices that our largest files hold. The line is the entropy of all "
        "pictures' indices together, without context: what sees neighbours, or one picture alone, may go below."
    )
    columns = [fw.Column("Level"), *(fw.Column(name, 3) for name in ("entropy", *heights))]
    values = [[level, row["entropy"], *map(row.get, modes)] for level, row in zip(levels, rows, strict=True)]
    figure = fw.Illustration("costs", draw, "Bits per index of each level in every mode")
    return fw.Section(
        "What an index costs", text, [figure], [fw.ResultTable("Bits per index", columns, values)]
    )
