"""Drawing symbols by their frequencies."""

import numpy as np

from codebound.coding.drawing import Drawer
from codebound.coding.integers import TOTAL


def test_symbols_come_as_often_as_their_frequencies_say() -> None:
    row = np.array([[TOTAL // 2, TOTAL // 4, TOTAL // 4 - 1, 1]])
    drawer, count = Drawer(np.random.default_rng(0)), 20_000
    found = np.bincount(drawer.code(row, np.zeros(count, dtype=np.int64)), minlength=4) / count
    assert np.abs(found - row[0] / TOTAL).max() < 4 * 0.5 / np.sqrt(count)
    assert abs(drawer.bits / count - 1.5) < 0.03


def test_rows_of_a_table_are_each_their_own() -> None:
    table = np.array([[TOTAL - 1, 1], [1, TOTAL - 1]])
    rows = np.array([0, 0, 1, 1])
    found = Drawer(np.random.default_rng(1)).code(table, np.zeros(4, dtype=np.int64), rows)
    assert found.tolist() == [0, 0, 1, 1]
