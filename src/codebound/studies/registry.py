"""The one list of studies: their entries, and how a study's declaration is imported when it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from codebound.errors import InputError
from codebound.studies import (
    adversary,
    compression,
    estimators,
    generation,
    half_decibel,
    hierarchy,
    initialisation,
    population,
    sound,
    sound_design,
    trained_trellis,
    transfer,
    utilisation,
)
from codebound.studies.framework.entry import Entry

STUDIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        initialisation.ENTRY,
        estimators.ENTRY,
        population.ENTRY,
        utilisation.ENTRY,
        compression.ENTRY,
        half_decibel.ENTRY,
        trained_trellis.ENTRY,
        hierarchy.ENTRY,
        transfer.ENTRY,
        generation.ENTRY,
        adversary.ENTRY,
        sound.ENTRY,
        sound_design.ENTRY,
    )
}


def entry_of(name: str) -> Entry:
    """A study's entry.

    Raises:
        InputError: there is no such study; those that there are are named.
    """
    if name not in STUDIES:
        raise InputError(f"unknown study {name!r}; known: {', '.join(STUDIES)}")
    return STUDIES[name]


def declaration(entry: Entry) -> Any:
    """The study that an entry stands for (a `framework.study.Study`), imported now."""
    module, _, name = entry.declaration.partition(":")
    return getattr(import_module(module), name)
