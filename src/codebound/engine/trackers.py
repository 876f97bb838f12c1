"""Weights & Biases and TensorBoard, where the user asks for them and has them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codebound.errors import InputError
from codebound.extras import imported
from codebound.files import write_text

KNOWN = ("wandb", "tensorboard")


class Trackers:
    """Logged figures sent on; a resumed run continues its own entry.

    Raises:
        InputError: an unknown tracker, or one whose package is not installed.
    """

    def __init__(self, names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> None:
        # Refuse unknown names before anything is sent.
        self._wandb: Any = None
        self._board: Any = None
        for name in names:
            if name not in KNOWN:
                raise InputError(f"tracker {name!r} is unknown; accepted: {', '.join(KNOWN)}")

        # An entry that a resumed run finds again by its id.
        if "wandb" in names:
            wandb = imported("wandb", "wandb", "--wandb")
            self._wandb = wandb.init(
                project="codebound",
                name=folder.name,
                id=_own_id(folder / "wandb-id"),
                resume="allow",
                dir=folder,
                config=dict(settings),
            )

        # Event files in the run's own folder.
        if "tensorboard" in names:
            board = imported("torch.utils.tensorboard", "tensorboard", "--tensorboard")
            self._board = board.SummaryWriter(folder / "tensorboard")

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        """Send a logged row to each tracker; figures that are not known are left out."""
        figures = {name: value for name, value in values.items() if value is not None}
        if self._wandb is not None:
            self._wandb.log(figures, step=step)
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and finish."""
        if self._wandb is not None:
            self._wandb.finish()
        if self._board is not None:
            self._board.close()


def _own_id(file: Path) -> str:
    """The run's name at Weights & Biases: kept in its folder, since folders of other runs may have the same name."""
    if not file.exists():
        write_text(file, uuid.uuid4().hex[:12])
    return file.read_text(encoding="utf-8")
