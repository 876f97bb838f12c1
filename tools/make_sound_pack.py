"""Make `src/codebound/data/sounds/`: a few recordings for tests and the demo, each CC0 or CC-BY, with ATTRIBUTION.

    .venv/bin/python tools/make_sound_pack.py SONIC_PI_SAMPLES_FOLDER

Speech comes through `codebound.data.speech` (Debian's packages of Asterisk's sounds), music from the folder
`/usr/share/sonic-pi/samples` of the Debian package sonic-pi-samples. Both licences were read in the packages'
`/usr/share/doc/*/copyright`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import soundfile

from codebound.data import speech

PACK = Path(__file__).parent.parent / "src/codebound/data/sounds"
SPEECH = {
    "it": ("agent-alreadyon", "vm-toforward", "vm-forward-multiple"),
    "ru": ("agent-alreadyon", "vm-tocallback", "vm-forward"),
}
AUTHORS = {"it": "Carlo Flora, www.segreterietelefoniche.it", "ru": "Maxim Topal, www.ivrvoice.ru"}
MUSIC = {
    "loop_tabla": "lezaarth, freesound.org/people/lezaarth/sounds/242591",
    "guit_harmonics": "BStateham, freesound.org/people/BStateham/sounds/141524",
}
HEAD = """# Sounds in this folder

Recordings by other people, each redistributed on its own terms; the package's own licence does not cover them. The
licences were read in the source packages' `/usr/share/doc/*/copyright`. `tools/make_sound_pack.py` wrote this file and
made the recordings. No author endorses this package; they come without warranties of any kind.

| file | author | source | licence | changes |
|---|---|---|---|---|
"""
TAIL = """
- CC0-1.0: https://creativecommons.org/publicdomain/zero/1.0/
- CC-BY-3.0: https://creativecommons.org/licenses/by/3.0/
"""


def main(samples: Path) -> None:
    """Write the pack."""
    PACK.mkdir(parents=True, exist_ok=True)
    rows, index = [], []
    for language, names in SPEECH.items():
        found = {Path(clip.name).stem: clip for clip in speech.clips(language)}
        for name in names:
            file, clip = f"{language}_{name}.flac", found[name]
            soundfile.write(PACK / file, clip.samples, speech.RATE, subtype="PCM_16")
            source = f"`{clip.name}`, asterisk-core-sounds-{language}-g722 {speech.VERSION} (Debian package)"
            rows.append((file, AUTHORS[language], source, "CC-BY-3.0", "decoded from G.722, stored as FLAC"))
            index.append({"file": file, "clip": clip.name})
    for name, author in MUSIC.items():
        shutil.copyfile(samples / f"{name}.flac", PACK / f"{name}.flac")
        rows.append((f"{name}.flac", author, "sonic-pi-samples 3.2.2 (Debian package)", "CC0-1.0", "none"))
        index.append({"file": f"{name}.flac"})
    for entry in index:
        entry["sha256"] = hashlib.sha256((PACK / entry["file"]).read_bytes()).hexdigest()
    (PACK / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    table = "".join(f"| `{file}` | {' | '.join(rest)} |\n" for file, *rest in rows)
    (PACK / "ATTRIBUTION.md").write_text(HEAD + table + TAIL, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
