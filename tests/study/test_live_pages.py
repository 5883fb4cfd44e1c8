"""Pages with live examples: committed without outputs, they run, and compute what the library does.

The pages are in numpy, so that the book needs no torch; here each is held against torch's modules.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import matplotlib as mpl
import nbformat
import numpy as np
import pytest
import torch

from qaprune_lib.gates.hard_concrete import HardConcrete
from qaprune_lib.gates.masks import _gated_norm

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = ("hard_concrete", "slicing", "nothing_pruned", "ambiguities", "explorer")
NOTEBOOKS = [REPOSITORY / "notebooks" / "report" / f"{name}.ipynb" for name in PAGES]
NOTEBOOKS.append(REPOSITORY / "notebooks" / "explorer.ipynb")


@pytest.fixture(autouse=True)
def _no_windows() -> Iterator[None]:
    with mpl.rc_context({"backend": "agg"}):
        yield


def definitions(page: str) -> dict[str, Any]:
    """What a page imports and defines: its functions, constants and names of types."""
    notebook = nbformat.read(REPOSITORY / "notebooks" / "report" / f"{page}.ipynb", as_version=4)
    names: dict[str, Any] = {}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for node in ast.parse(cell.source).body:
            assigned = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
            constant = assigned.lstrip("(")[:1].isupper()
            if constant or isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef):
                with suppress(NameError):  # what depends on the page's data
                    exec(compile(ast.Module([node], []), page, "exec"), names)
    return names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_outputs_and_with_parameters(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert 'results = "results"' in tagged[0].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_figures_are_numbered_and_described(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and "plt.show()" in cell.source:
            settings = cell.metadata["mystnb"]
            assert settings["figure"]["name"].startswith("fig-")
            assert settings["figure"]["caption"].endswith(".")
            assert len(settings["image"]["alt"]) > 60


def test_page_draws_gates_as_the_library_does() -> None:
    page = definitions("hard_concrete")
    alphas = np.linspace(-6, 12, 37)
    gates = HardConcrete(alphas.shape)
    gates.log_alpha.data = torch.from_numpy(alphas)
    for name, of in (("p_nonzero", "nonzero"), ("p_one", "one")):
        np.testing.assert_allclose(page[name](alphas), gates.probability(of).detach(), atol=1e-6)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(3)
    sample = gates.sample(generator).detach()
    u = torch.rand(alphas.shape, generator=torch.Generator().manual_seed(3)).double().numpy()
    np.testing.assert_allclose(page["sample"](alphas, u), sample, atol=1e-5)
    inside = np.linspace(1e-6, 1 - 1e-6, 200_001)
    for alpha in (-2.0, 0.5, 3.0):
        between = np.trapezoid(page["density"](inside, alpha), inside)
        assert between == pytest.approx(page["p_nonzero"](alpha) - page["p_one"](alpha), abs=1e-4)


def test_page_takes_the_mean_gate_as_the_library_does() -> None:
    page = definitions("ambiguities")
    alphas = np.linspace(-4, 6, 11)
    gates = HardConcrete(alphas.shape)
    gates.log_alpha.data = torch.from_numpy(alphas)
    np.testing.assert_allclose(page["mean_gate"](alphas), gates.mean(), atol=1e-4)


@pytest.mark.parametrize(("kind", "name"), [("weighted", "weighted_norm"), ("plain", "plain_norm")])
def test_page_norms_as_the_library_does(kind: str, name: str) -> None:
    page = definitions("slicing")
    rng = np.random.default_rng(0)
    z, w, b = rng.normal(size=(5, 24)), rng.normal(size=24), rng.normal(size=24)
    gates = rng.uniform(size=24) * (rng.uniform(size=24) > 0.3)
    norm = torch.nn.LayerNorm(24, eps=1e-12, dtype=torch.float64)
    norm.weight.data, norm.bias.data = torch.from_numpy(w), torch.from_numpy(b)
    hook = _gated_norm(torch.from_numpy(gates), kind)
    inputs = torch.from_numpy(z)
    expected = hook(norm, (inputs,), norm(inputs)).detach()
    np.testing.assert_allclose(page[name](z, gates, w, b), expected, atol=1e-9)


def test_page_counts_multiply_accumulates_as_the_library_does() -> None:
    from qaprune_lib.models.shape import ModelShape
    from qaprune_lib.models.topology import Topology

    page = definitions("slicing")
    heads, activations = 4, 50
    shape = ModelShape(
        n_layers=1,
        n_heads=page["N_HEADS"],
        head_size=page["HEAD_SIZE"],
        d_intermediate=page["D_INTERMEDIATE"],
        d_embedding=page["D_EMBEDDING"],
    )
    keep = {
        "attn": np.arange(shape.n_heads)[None] < heads,
        "ff": np.arange(shape.d_intermediate)[None] < activations,
    }
    expected = Topology.from_masks(shape, keep).macs(page["LENGTH"])
    assert page["macs"](heads, activations) == expected


def test_page_trains_gates_as_torch_does() -> None:
    """One gate, many steps, without noise from the task: Adam under the price alone."""
    page = definitions("nothing_pruned")
    page["WORTH"][:] = 0.0
    steps, rate, penalty = 60, 0.1, 0.02
    ended = page["train"](2.5, rate, penalty, steps, noise=0.0)[-1, 0]
    start = 2.5 + 0.01 * np.random.default_rng(0).normal(size=page["N_GATES"])
    gates = HardConcrete(start.shape)
    gates.log_alpha.data = torch.from_numpy(start)
    optimizer = torch.optim.Adam(gates.parameters(), lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        (penalty * gates.probability("nonzero").sum()).backward()
        optimizer.step()
    np.testing.assert_allclose(ended, gates.log_alpha.detach(), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_without_records(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    papermill = pytest.importorskip("papermill")
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "results").mkdir()
    parameters = {"results": str(tmp_path / "results")}
    if path.parent.name == "notebooks":
        parameters["runs"] = str(tmp_path / "runs")
    done = papermill.execute_notebook(
        path, tmp_path / path.name, parameters=parameters, progress_bar=False
    )
    assert sum(len(cell.get("outputs", [])) for cell in done.cells) > 0
    assert (tmp_path / path.name).stat().st_size < 1_500_000
