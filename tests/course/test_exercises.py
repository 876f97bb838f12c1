"""The course's worked answers are right, wrong ones are found and told why, and every question has a task."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codebound.cli import app
from codebound.course import check, exercise
from codebound.course.exercise import CHAPTERS, tasks
from codebound.errors import InputError

COURSE = Path(__file__).parents[2] / "course"
KINDS = ["understanding", "extension", "theory", "implementation", "research"]
# (chapter, an answer that is wrong in a way that happens, what the hint speaks of)
MISTAKES = [
    ("scalar", "import numpy as np\ndef lloyd(x, levels, steps):\n    for _ in range(steps):\n"
     "        i = np.abs(x[:, None] - levels).argmin(1)\n"
     "        levels = np.array([x[i == j].mean() if (i == j).any() else 0.0 for j in range(len(levels))])\n"
     "    return levels", "must stay"),
    ("scalar", "one_bit_distortion = 0.25", "mean of |x|"),
    ("vector", "import torch\ndef lloyd_step(z, codebook):\n    i = torch.cdist(z, codebook).argmin(1)\n"
     "    return torch.stack([z[i == j].mean(0) for j in range(len(codebook))])", "not become NaN"),
    ("rate-distortion", "import numpy as np\ndef water_filling(v, r):\n    return v * 2.0 ** (-2 * r / len(v))",
     "under the water level"),
    ("random-codebooks", "import torch\ndef random_codebook(z, k, seed):\n"
     "    g = torch.Generator().manual_seed(seed)\n    return z.mean(0) + torch.randn(k, z.shape[1], generator=g) "
     "@ torch.linalg.cholesky(torch.cov(z.T)).T", "covariance is off"),
    ("vqvae", "import torch\ndef vq_loss(z, codebook, beta):\n    c = codebook[torch.cdist(z, codebook).argmin(1)]\n"
     "    return (1 + beta) * (z - c).square().sum(1).mean()", "is sg on the codeword there"),
    ("straight-through", "def straight_through(z, c):\n    return c + (z - c).detach() - (z - c).detach()",
     "No gradient reaches z"),
    ("straight-through", "def straight_through(z, c):\n    return c", "No gradient reaches z"),
    ("ema", "import torch\ndef ema_update(counts, sums, z, index, decay):\n    n = torch.bincount(index).float()\n"
     "    return decay * counts[:2] + (1 - decay) * n, sums, sums", "minlength"),
    ("dead-codes", "def revive(codebook, counts, z, share, seed):\n    dead = counts < share * counts.mean()\n"
     "    out = codebook.clone()\n    out[dead] = z[0]\n    return out", "different vectors"),
    ("blahut-arimoto", "import math\ndef slope_of_gaussian(d):\n    return -1 / (2 * d)", "base of the logarithm"),
    ("structured", "import torch\ndef residual_quantize(z, books):\n"
     "    i = torch.stack([torch.cdist(z, b).argmin(1) for b in books], 1)\n"
     "    return i, sum(b[i[:, j]] for j, b in enumerate(books))", "what those before it left"),
    ("information", "import numpy as np\ndef perplexity(counts):\n    p = counts / counts.sum()\n"
     "    return 2 ** -(p * np.log2(p)).sum()", "zeros"),
    ("hierarchies", "def split_bits(n, coarse, fine, bits):\n    return bits // n, bits // n", "best split"),
    ("adversarial", "import torch\ndef hinge_losses(real, fake):\n"
     "    return torch.relu(1 - real).mean() + torch.relu(1 + fake).mean(), torch.relu(1 - fake).mean()",
     "without a hinge"),
    ("priors", "import numpy as np\ndef top_p(p, mass):\n    kept = np.where(p >= 1 - mass, p, 0)\n"
     "    return kept / kept.sum()", "not enough"),
    ("sound", "import math\nimport numpy as np\ndef lapped(x, hop):\n"
     "    n, k = np.arange(2 * hop) + 0.5, np.arange(hop) + 0.5\n"
     "    y = np.concatenate([np.zeros(hop), x, np.zeros(hop)])\n"
     "    f = np.stack([y[i:i + 2 * hop] for i in range(0, len(x) + hop, hop)]) * np.sin(np.pi / (2 * hop) * n)\n"
     "    return f @ (math.sqrt(2 / hop) * np.cos(np.pi / hop * np.outer(n, k)))", "lacks N/2"),
    ("sound", "import numpy as np\ndef noise_by_masks(v, m, bits):\n    return m * (np.prod(v / m) * 4.0**-bits) ** "
     "(1 / len(v))", "costs more than sending nothing"),
    ("half-decibel", "import numpy as np\ndef viterbi(x, step):\n    return step * np.round(x / step)", "not allowed"),
    ("judging", "import numpy as np\ndef paired_interval(a, b):\n    d = b - a\n"
     "    return d.mean(), d.mean() - 1.96 * d.std(), d.mean() + 1.96 * d.std()", "4.30"),
]  # fmt: skip


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_worked_answers_are_right(chapter: str) -> None:
    results = check(chapter, COURSE / "answers" / f"{chapter}.py")
    assert [result.kind for result in results] == KINDS
    assert {result.state for result in results} == {"right"}, results


@pytest.mark.parametrize(("chapter", "answer", "said"), MISTAKES)
def test_a_mistake_is_found_and_the_hint_says_which(
    tmp_path: Path, chapter: str, answer: str, said: str
) -> None:
    file = tmp_path / "my_answer.py"
    file.write_text(answer)
    (wrong,) = [result for result in check(chapter, file) if result.state != "not answered"]
    assert wrong.state == "wrong"
    assert said in wrong.hint


def test_every_question_of_the_chapters_has_its_task() -> None:
    asked = {}
    for path in COURSE.glob("[0-9]*.py"):
        text = path.read_text(encoding="utf-8")
        (chapter,) = re.findall(r"codebound course check (\S+) my_answer.py", text)
        asked[chapter] = re.findall(r"^# \d\. \*(\w+)\.\* `(\w+)", text, flags=re.MULTILINE)
    assert set(asked) == set(CHAPTERS)
    for chapter, questions in asked.items():
        assert [name for _, name in questions] == [task.name for task in tasks(chapter)]
        assert [kind.lower() for kind, _ in questions] == KINDS


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "my_answer.py"
    file.write_text(
        "def tremor(decay, variance, count):\n    return variance / count\nbatches_to_forget = 'ten'\n"
    )
    result = CliRunner().invoke(app, ["course", "check", "ema", str(file)])
    assert result.exit_code == 1
    assert "squared weights" in " ".join(result.output.split())
    assert "not answered" in result.output
    right = CliRunner().invoke(app, ["course", "check", "ema", str(COURSE / "answers" / "ema.py"), "--json"])
    assert right.exit_code == 0
    assert right.output.count('"right"') == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "defines none of"),
        ("x = ", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("import sys\nsys.exit(0)", "it calls exit"),
        ("while True: pass", "it did not end within 1 seconds"),
    ],
)
def test_files_that_answer_nothing_are_refused(
    tmp_path: Path, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exercise, "SECONDS", 1)
    file = tmp_path / "my_answer.py"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        check("ema", file)
    with pytest.raises(InputError, match="there is no file"):
        check("ema", tmp_path / "other.py")
    with pytest.raises(InputError, match="there is no chapter 'emma'"):
        check("emma", file)


def test_answers_that_exit_or_never_end_are_wrong_and_dataclasses_are_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exercise, "SECONDS", 1)
    names = [task.name for task in tasks("ema")]
    file = tmp_path / "my_answer.py"
    file.write_text(
        "from dataclasses import dataclass\n@dataclass\nclass Mean:\n    value: float\n"
        f"def {names[0]}(*_):\n    raise SystemExit(0)\n"
        f"def {names[2]}(*_):\n    raise ValueError('[/bold] no')\n"
        f"def {names[1]}(*_):\n"
        "    while True:\n        try:\n            pass\n        except Exception:\n            pass\n"
    )
    results = {result.name: result for result in check("ema", file)}
    assert "it calls exit" in results[names[0]].hint
    assert "it did not end within 1 seconds" in results[names[1]].hint
    assert {results[name].state for name in names[3:]} == {"not answered"}
    shown = CliRunner().invoke(app, ["course", "check", "ema", str(file)])
    assert shown.exit_code == 1
    assert "[/bold] no" in " ".join(shown.output.split())
