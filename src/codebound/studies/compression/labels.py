"""Names and colours on the page."""

NAMES = {"codebound": "codebound", "jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "jxl": "JPEG XL"}
COLOURS = {
    "codebound": "#0b63a5",
    "jpeg": "#c2410c",
    "webp": "#117733",
    "avif": "#7a3fa0",
    "jxl": "#8a6100",
}
MODES = {  # in the order of the ladder: name, colour
    "raw": ("raw", "#c9ced6"),
    "zlib": ("zlib -9", "#a7b0bc"),
    "xz": ("xz", "#8a94a2"),
    "adaptive": ("adaptive counts", "#e2b07a"),
    "context": ("context counts", "#d97f3d"),
    "network": ("prior and contexts", "#0b63a5"),
}
