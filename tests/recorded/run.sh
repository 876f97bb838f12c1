#!/usr/bin/env bash
# Makes in FOLDER what record.py reads (about 8 minutes on two cores): tests/recorded/run.sh FOLDER
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1" && cd "$1"
export OMP_NUM_THREADS=1
codebound() { "$top/.venv/bin/python" -m codebound "$@"; }
codebound train --steps 200 --set log_every=20 --out train
mkdir -p pictures
for name in aitzgorri.jpg astronaut.jpg chelsea.png china.png coffee.jpg flower.jpg friends.png hubble.jpg life.jpg picosdeeuropa.jpg; do
  cp "$top/src/codebound/data/photos/$name" pictures/
done
codebound compress pictures --model default --out compressed
for study in init estimators population compression utilisation; do
  codebound study "$study" --quick --jobs 2 --out "$study"
done
