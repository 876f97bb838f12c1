"""The command line: what it prints, and how it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from codebound.cli import app

KEYS = {"shannon", "converse", "best_known", "random_codebook", "best_variance", "rate_bits"}


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def limits(*arguments: str) -> dict[str, float | None]:
    code, out, _ = call("limits", "gaussian", *arguments, "--json")
    assert code == 0, out
    return json.loads(out)


def test_limits_of_the_isotropic_gaussian() -> None:
    found = limits("--dim", "8", "--codebook-size", "256")
    assert found.keys() >= KEYS
    assert found["shannon"] == pytest.approx(2.0)
    assert found["converse"] == pytest.approx(2.479, abs=0.005)
    assert found["best_known"] == pytest.approx(2.5275)
    assert found["random_codebook"] == pytest.approx(2.8682, abs=0.001)
    assert found["best_variance"] == pytest.approx(0.7263, abs=0.005)
    assert found["rate_bits"] == 8.0


def test_limits_data_asks_which_axis_is_the_vector(tmp_path: Path) -> None:
    z = np.random.default_rng(0).standard_normal((30, 4, 5, 5)).astype("f4")
    np.save(tmp_path / "z.npy", z)
    np.save(tmp_path / "rows.npy", z.transpose(0, 2, 3, 1).reshape(-1, 4))
    command = ("limits", "data", str(tmp_path / "z.npy"), "--codebook-size", "16")
    code, _, errors = call(*command)
    assert code == 2
    assert "(30, 4, 5, 5)" in errors
    assert "--axis" in errors
    chosen = json.loads(call(*command, "--axis", "1", "--json")[1])
    rows = json.loads(call("limits", "data", str(tmp_path / "rows.npy"), *command[3:], "--json")[1])
    assert chosen == rows


def test_limits_of_a_spectrum_and_of_its_covariance_agree(tmp_path: Path) -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    np.savetxt(tmp_path / "c.csv", rotation @ np.diag([9, 4, 1, 0.25]) @ rotation.T, delimiter=",")
    by_spectrum = limits("--spectrum", "9,4,1,.25", "--codebook-size", "16")
    by_file = limits("--covariance", str(tmp_path / "c.csv"), "--codebook-size", "16")
    assert by_spectrum["shannon"] == pytest.approx(1.81006, abs=1e-4)
    assert by_file["shannon"] == pytest.approx(by_spectrum["shannon"])
    assert by_file["random_codebook"] == pytest.approx(by_spectrum["random_codebook"], rel=1e-6)
    assert by_spectrum["random_codebook"] > by_spectrum["shannon"]
    assert by_spectrum["converse"] is None
    assert by_spectrum["best_known"] is None
    assert by_spectrum["best_variance"] is None


def test_equal_variances_scale(tmp_path: Path) -> None:
    one, three = (
        limits("--dim", "4", "--codebook-size", "16"),
        limits("--spectrum", "3,3,3,3", "--codebook-size", "16"),
    )
    for key in KEYS - {"rate_bits"}:
        assert three[key] == pytest.approx(3 * one[key], rel=1e-6)


def test_limits_of_data(tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.random.default_rng(0).standard_normal((6000, 4)).astype("f4"))
    code, out, _ = call("limits", "data", str(tmp_path / "z.npy"), "--codebook-size", "16", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["shannon_low"] <= 1.0 <= found["shannon_high"] + 0.03  # D(R) of N(0, I4) at 4 bits is 1
    assert found["gaussian_reference"] == pytest.approx(1.0, abs=0.05)
    assert 1.3 < found["kmeans"] < 1.5  # the converse is 1.34
    assert found["kmeans_low"] < found["kmeans"] < found["kmeans_high"]
    for low, high, side in (("low", "high", "low"), ("high", "low", "high")):
        gap = 10 * np.log10(found[f"kmeans_{low}"] / found[f"shannon_{high}"])
        assert found[f"gap_db_{side}"] == pytest.approx(gap)
    assert (
        "95 % interval of its error"
        in call("limits", "data", str(tmp_path / "z.npy"), "--codebook-size", "16")[1]
    )


def test_the_interval_of_k_means_is_the_spread_over_held_out_rows(tmp_path: Path) -> None:
    z = np.random.default_rng(0).standard_normal((1000, 1))  # 200 held out; all but exact: 2 words on a line
    np.save(tmp_path / "z.npy", z)
    found = json.loads(call("limits", "data", str(tmp_path / "z.npy"), "--codebook-size", "2", "--json")[1])
    errors = (np.abs(z) - np.sqrt(2 / np.pi)) ** 2
    expected = 1.97 * errors.std() / np.sqrt(200)
    assert (found["kmeans_high"] - found["kmeans_low"]) / 2 == pytest.approx(expected, rel=0.3)


@pytest.mark.slow
def test_the_limit_of_images_is_that_of_the_held_out_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(10):  # half of them much flatter: training and held-out images are other distributions
        pixels = rng.normal(128, 3 if i % 2 else 40, (64, 64, 3)).clip(0, 255).astype("u1")
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    code, out, errors = call("limits", "data", str(tmp_path), "--codebook-size", "16", "--json")
    assert code == 0, errors
    found = json.loads(out)
    assert found["gap_db_high"] > 0
    assert found["kmeans_high"] > 3 * found["kmeans"]  # of two images, one flat


def test_few_held_out_rows_cut_the_perplexity_and_the_table_says_so(tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.random.default_rng(0).standard_normal((500, 2)))
    command = ("limits", "data", str(tmp_path / "z.npy"), "--codebook-size", "64")
    found = json.loads(call(*command, "--json")[1])
    assert 44 < found["perplexity_even"] < 45  # 100 rows
    assert f"about {found['perplexity_even']:.0f} even if" in " ".join(
        call(*command)[1].replace("│", " ").split()
    )
    assert "even if" not in call(*command[:-1], "4")[1]


@pytest.mark.slow
def test_one_held_out_image_has_no_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.normal(128, 30, (64, 64, 3)).clip(0, 255).astype("u1")).save(
            tmp_path / f"{i}.png"
        )
    command = ("limits", "data", str(tmp_path), "--codebook-size", "16")
    assert json.loads(call(*command, "--json")[1])["gap_db_low"] is None
    assert "of one image" in call(*command)[1]


def test_tables_are_printed() -> None:
    assert "Shannon bound" in call("limits", "gaussian", "--dim", "2", "--codebook-size", "4")[1]
    assert "init" in call("study", "list")[1]
    assert json.loads(call("study", "list", "--json")[1])[0]["study"] == "init"


def test_show_config_teaches_what_set_changes() -> None:
    code, out, _ = call("study", "show-config", "init", "--set", "steps=7")
    assert code == 0
    assert "steps: 7" in out
    assert json.loads(call("study", "show-config", "init", "--json")[1])["codebook_size"] == 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["limits", "gaussian", "--dim", "8", "--codebook-size", "1"], "codebook_size must be at least 2"),
        (["limits", "gaussian", "--codebook-size", "4"], "--dim, --spectrum or --covariance"),
        (["limits", "gaussian", "--dim", "3", "--spectrum", "1,2", "--codebook-size", "4"], "--dim 3"),
        (["limits", "gaussian", "--spectrum", "1,x", "--codebook-size", "4"], "1,x"),
        (["limits", "gaussian", "--spectrum", "1,-2", "--codebook-size", "4"], "not negative"),
        (["limits", "gaussian", "--covariance", "nowhere.npy", "--codebook-size", "4"], "nowhere.npy"),
        (["limits", "data", "nowhere.npy", "--codebook-size", "4"], "nowhere.npy"),
        (["limits", "data", "x.npy", "--codebook-size", "4", "--seed", "-1"], "seed must be"),
        (["study", "init", "--set", "stepps=4"], "did you mean 'steps'"),
        (["study", "init", "--data", "nowhere.npy"], "nowhere.npy"),
        (["study", "report", "nowhere"], "nowhere"),
        (["study", "show-config", "other"], "known: init"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, errors = call(*arguments)
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors
    assert "cells (source" not in errors, "no progress bar before the input is accepted"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 3)), "square"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "eigenvalue -1"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "finite"),
        (np.zeros((2, 2)), "zero"),
    ],
)
def test_a_matrix_that_is_no_covariance_is_refused(matrix: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", matrix)
    code, _, errors = call(
        "limits", "gaussian", "--covariance", str(tmp_path / "c.npy"), "--codebook-size", "4"
    )
    assert code == 2
    assert message in errors


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nothing", "archive", "texts", "complex"], ids=repr)
def test_a_file_that_holds_no_matrix_is_refused_by_name(content: bytes | str, tmp_path: Path) -> None:
    file = tmp_path / "c.npy"
    with file.open("wb") as stream:
        if isinstance(content, bytes):
            stream.write(content)
        elif content == "archive":
            np.savez(stream, a=np.eye(2))
        else:
            np.save(stream, np.array([["a"]]) if content == "texts" else 1j * np.eye(2))
    code, _, errors = call("limits", "gaussian", "--covariance", str(file), "--codebook-size", "4")
    assert code == 2
    assert "c.npy" in errors


def test_a_singular_covariance_has_limits_too(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.diag([2.0, 1.0, 0.0]))
    found = limits("--covariance", str(tmp_path / "c.npy"), "--codebook-size", "16")
    assert found["shannon"] == pytest.approx(limits("--spectrum", "2,1", "--codebook-size", "16")["shannon"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((50, 3), np.inf), "50"),
        (np.random.default_rng(0).standard_normal((10, 3)), "10 rows"),
        (
            np.random.default_rng(0).standard_normal((30, 3)),
            "z.npy has 30 rows; estimating their limit needs 40",
        ),
        (np.random.default_rng(0).standard_normal((500, 1)) * np.ones(3), "singular"),
        (np.random.default_rng(0).integers(0, 3, (500, 3)), "discrete"),
    ],
)
def test_vectors_without_a_limit_are_refused(values: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", values.astype("f4"))
    code, _, errors = call("limits", "data", str(tmp_path / "z.npy"), "--codebook-size", "16")
    assert code == 2
    assert message in errors, errors


def test_help_has_examples_and_defaults_with_their_brackets() -> None:
    code, out, _ = call("study", "init", "--help")
    assert code == 0
    assert "codebound study init --quick" in out
    assert '--set "sources=[isotropic]" --set "arms=[kmeans, best]"' in out
    assert "runs/init; with --quick runs/init-quick" in out


def test_every_option_of_show_config_is_explained() -> None:
    out = call("study", "show-config", "--help")[1]
    assert all(text in out for text in ("--quick has them", "--full has them", "Change a setting"))


def test_an_error_keeps_its_brackets(tmp_path: Path) -> None:
    code, _, errors = call("limits", "data", str(tmp_path / "p[q].npy"), "--codebook-size", "4")
    assert code == 2
    assert "p[q].npy" in errors
