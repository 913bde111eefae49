"""Every peer of the benchmark does the same work, and a run writes what it says."""

import importlib.util
import json
import sys

import jax
import numpy as np
import pytest
from bench import __main__ as command
from bench import agreement, ensembles, gradients, in_numpy, report, rows, suite, timing, tune, work

# Small twins of the rows' work; digits in batches of 10 over two epochs, each in its own order.
WORKS = {
    "classic": work.classic,
    "classic64": lambda: work.classic("float64"),
    "small": lambda: work.uniform((4, 8, 3), 8),
    "digits": lambda: work.digits((64, 12, 10), 10, epochs=2, examples=40),
}
PACKAGES = {"in_flax": "flax", "in_equinox": "equinox", "in_torch": "torch", "in_sklearn": "sklearn"}
SLOW_TO_COMPILE = "torch compiled"  # half a minute; `python -m bench` itself checks it at each start


def peers_of(module: str) -> list[work.Peer]:
    package = PACKAGES.get(module)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: the extra bench has it")
    if module == "in_c" and (why := rows.find_peers("cpu").left_out.get("C")):
        pytest.skip(why)
    family = importlib.import_module(f"bench.{module}")
    found = family.peers("cpu") if hasattr(family, "peers") else family.PEERS
    return [peer for peer in found if peer.name != SLOW_TO_COMPILE]


@pytest.mark.filterwarnings("ignore")  # of other people's packages
@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("module", rows.FAMILIES)
def test_every_peer_comes_to_the_same_parameters(module: str, name: str) -> None:
    peers = peers_of(module)
    with jax.enable_x64(name.endswith("64")), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        problem = WORKS[name]()
        fitting = [peer for peer in peers if peer.fits(problem)]
        for peer in fitting:
            assert agreement.check(peer, problem, peer.make(problem)) <= agreement.TOLERANCE[problem.dtype]


@pytest.mark.parametrize("name", ["classic", "classic64"])
def test_c_leaves_the_arithmetic_of_its_process_alone(name: str) -> None:
    peers = peers_of("in_c")
    problem = WORKS[name]()
    for peer in peers:
        peer.make(problem)(10)
    assert sys.float_info.min / 2 > 0, "the library made this thread flush subnormal numbers to zero"


@pytest.mark.parametrize(
    "slip",
    [
        {"rate": 0.2}, {"delta": "cross-entropy"}, {"reduction": "sum"},
        {"orders": np.stack([np.arange(40)] * 2)},
    ],
)  # fmt: skip
def test_other_work_is_seen(slip: dict) -> None:
    problem = WORKS["digits"]()
    other = in_numpy.make(problem._replace(**slip))
    with pytest.raises(agreement.Disagreement, match=r"^Other does other work: W_1 differs by .* from NumPy"):
        agreement.check(work.Peer("Other", in_numpy.make), problem, other)


def test_parameters_that_are_not_finite_or_of_another_shape_are_seen() -> None:
    with pytest.raises(agreement.Disagreement, match="W_1 differs by nan"):
        agreement.compare("A", ["W_1"], [np.full(2, np.nan)], [np.ones(2)], 1e-3)
    with pytest.raises(agreement.Disagreement, match=r"shape \(2,\), not \(3,\)"):
        agreement.compare("A", ["W_1"], [np.ones(2)], [np.ones(3)], 1e-3)
    with pytest.raises(agreement.Disagreement, match="1 arrays of parameters where 2"):
        agreement.compare("A", ["W_1"], [np.ones(2)], [np.ones(2), np.ones(1)], 1e-3)


def test_populations_agree_member_by_member() -> None:
    setting = work.Setting(work.Found((), {}), quick=True, device="cpu", only=())
    entries = ensembles.ensemble(40, setting)
    assert entries[0].peer == ensembles.BY_VMAP
    assert all(entry.facts["difference"] <= agreement.TOLERANCE["float32"] for entry in entries)
    assert {entry.units for entry in entries} == {200_000}


def test_a_large_gradient_agrees_and_counts_its_operations() -> None:
    setting = work.Setting(work.Found((), {}), quick=True, device="cpu", only=())
    entries = gradients.large(setting, (8, 16, 4), 6)
    assert entries[0].facts["flops"] == 2 * 6 * (2 * 8 * 16 + 3 * 16 * 4)  # x needs no gradient
    assert [entry.facts.get("ceiling") for entry in entries[-2:]] == [True, True]


def test_slices_and_deep_networks_agree() -> None:
    setting = work.Setting(work.Found((), {}), quick=True, device="cpu", only=())
    entries = [*gradients.accumulate(setting, (6, 4, 2), 9000), *gradients.deep(setting, 5, 6, 20)]
    assert [entry.peer for entry in entries if entry.peer.startswith("handprop")] == [
        "handprop exact", "handprop.accumulate",
        "handprop scan", "handprop scan, 4 segments", "handprop exact", "handprop scan, layers apart",
    ]  # fmt: skip
    assert all(entry.facts["temporaries_mb"] > 0 for entry in entries)


def test_folding_pays_up_to_the_last_product_before_it_loses() -> None:
    times = {48: (1.0, 0.1), 512: (2.0, 1.9), 2048: (3.0, 3.1), 8192: (9.0, 5.0)}
    as_forms = {product: {"exact": exact, "fused": folded} for product, (exact, folded) in times.items()}
    assert tune.crossover(as_forms) == 512
    assert tune.crossover({2048: as_forms[2048]}) == 0


def test_a_tuning_run_says_how_to_use_what_it_measured(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(tune, "CASES", (((2, 3, 1), 4),))
    monkeypatch.setattr(sys, "argv", ["bench", "--tune", "--rounds", "1", "--out", str(tmp_path)])
    assert suite.run(command.arguments(), threads=2) == 0
    limits = json.loads((tmp_path / "crossover.json").read_text())["cpu"]
    assert set(limits) == {"float32", "float64"}
    assert f"max_fused={limits['float32']}" in capsys.readouterr().out


def test_turns_are_taken_in_every_round_and_a_first_call_is_apart() -> None:
    called: list[str] = []
    entries = [work.Entry(name, lambda name=name: called.append(name), 2) for name in "abc"]
    found = timing.by_turns(entries, rounds=4, in_a_row=1)
    assert called[:3] == ["a", "b", "c"]
    turns = [called[i : i + 3] for i in range(3, 15, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(map(tuple, turns))) > 1
    assert [t.rounds for t in found] == [4, 4, 4]
    assert all(0 < t.minimum <= t.median for t in found)


def test_seconds_of_compilation_are_what_making_and_a_first_call_took_beyond_the_work() -> None:
    entry = work.Entry("a", lambda: None, units=10, ready_s=3.0, ready_units=5)
    found = timing._timing(entry, first=4.0, times=[1.0, 2.0, 2.0])  # 0.2 s a unit
    assert found.compile_s == pytest.approx(3.0 + 4.0 - 15 * 0.2)
    assert (found.minimum, found.median) == (pytest.approx(1e5), pytest.approx(2e5))


def test_speedups_are_against_the_baseline_and_shares_against_the_best_ceiling() -> None:
    times, flops = {"base": 8.0, "fast": 2.0, "product": 1.0}, {"flops": 16e3}
    facts = {"product": {**flops, "ceiling": True}}
    timings = [timing.Timing(name, us, us, 3, 0.0, facts.get(name, flops)) for name, us in times.items()]
    row = rows.Row("r", "A row", lambda _: [], baseline="base")
    records = {record["peer"]: record for record in report.as_rows(row, timings)}
    assert list(records) == ["product", "fast", "base"]
    assert (records["fast"]["times_baseline"], records["base"]["times_baseline"]) == (4.0, 1.0)
    assert "times_baseline" not in records["product"]
    assert (records["base"]["gflops"], records["base"]["of_ceiling"]) == (2.0, 0.125)


def test_a_run_writes_figures_table_and_chart(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(rows, "FAMILIES", {"in_jax": "jax", "in_numpy": "numpy", "in_nothing": "nothing"})
    given = ["--quick", "--rounds", "1", "--out", str(tmp_path), "--only", "small8", "auto"]
    monkeypatch.setattr(sys, "argv", ["bench", *given])
    assert suite.run(command.arguments(), threads=2) == 0
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert [row["peer"] for row in kept["rows"]] == ["handprop auto", work.BASELINE]
    assert kept["threads"] == 2 and kept["versions"]["jax"] == jax.__version__ and kept["cpu"]
    assert kept["notes"][0].startswith("nothing is left out: No module named")
    assert "| handprop auto |" in (tmp_path / "bench.md").read_text()
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "4-8-3, 8 examples" in capsys.readouterr().out


def test_a_peer_that_does_other_work_ends_the_run(monkeypatch, capsys, tmp_path) -> None:
    wrong = work.Peer("wrong", lambda w: in_numpy.make(w._replace(rate=2 * w.rate)))
    monkeypatch.setattr(rows, "find_peers", lambda device: work.Found((wrong,), {}))
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--out", str(tmp_path), "--only", "classic"])
    assert suite.run(command.arguments(), threads=2) == 1
    assert capsys.readouterr().err.startswith("classic: wrong does other work: W_1 differs by")
    assert not list(tmp_path.iterdir())


def test_bad_arguments_are_one_sentence(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "classic", "nobody"])
    assert suite.run(command.arguments(), threads=2) == 2
    assert capsys.readouterr().err.startswith("--only nobody names no row and no peer; rows are classic, classic64,")
    monkeypatch.setattr(sys, "argv", ["bench", "--device", "gpu"])
    assert suite.run(command.arguments(), threads=2) == 2
    assert "No GPU is usable by jax here" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["bench", "--rounds", "0"])
    with pytest.raises(SystemExit):
        command.arguments()
    assert "--rounds 0 is too small" in capsys.readouterr().err
