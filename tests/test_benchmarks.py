"""The inputs, statistics and pages of the benchmarks."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import __main__ as commands
from benchmarks import (
    act,
    cloning,
    compiled,
    evaluate,
    exploration,
    footprint,
    history,
    inputs,
    inside,
    population,
    ppo,
    recurrent,
    report,
    runner,
    sac,
    scaling,
    serving,
    settings,
    summary,
    throughput,
    tuning,
)
from benchmarks.peers import CONTENDERS


def test_inputs_lie_where_xla_borrows_them() -> None:
    assert all(inputs.observations(batch).ctypes.data % 64 == 0 for batch in (1, 3, 17, 256))


@pytest.mark.parametrize("squashed", [False, True])
def test_the_minibatch_was_taken_by_the_policy(squashed: bool) -> None:
    batch, weights = inputs.minibatch(4000, 5, squashed), inputs.weights(actions=5)
    density = stats.norm.logpdf(batch.actions, inputs.mean(weights, batch.observations), np.exp(weights.log_std))
    if squashed:
        density += 2.0 * np.log(np.cosh(batch.actions))
    exact = density.sum(-1, keepdims=True)
    # The stored log-densities have normal noise of deviation 0.1, so that no ratio is exactly 1.
    np.testing.assert_allclose(np.std(batch.log_prob - exact), 0.1, rtol=0.05)


def test_slope_of_a_power_law_is_its_power() -> None:
    sizes = [1, 16, 256, 4096]
    assert report.slope(sizes, [3.0 * size**0.5 for size in sizes]) == pytest.approx(0.5)


@pytest.mark.parametrize(("ours", "shown"), [(150.0, "1.50×"), (20.0, "0.20×"), (1.9, "0.019×"), (0.41, "0.0041×")])
def test_small_ratios_keep_two_digits(ours: float, shown: str) -> None:
    assert report.ratio(ours, 100.0) == shown


def test_heading_of_a_command_with_two_measurements_names_the_warm_up() -> None:
    machine = {"processor": "x86", "cores": 2, "memory_gib": 1, "system": "Linux", "python": "3.11"}
    results = {"command": "recurrent", "device": "cpu", "date": "2026-01-01", "revision": "abc", "machine": machine}
    results |= {"seconds": 1, "share_of_cpu_used_by_others": 0.0, "layers": {"settings": {"warm_up": 0.25}}}
    assert "Turns begin with 0.25 s" in report.heading(results)


def test_results_older_than_the_package_say_so(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    def commit(file: str, text: str) -> str:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
        git("add", "-A")
        git("commit", "-m", file)
        # Results stay in memory while a program runs, and this repository changes.
        history.since.cache_clear()
        return history.present(tmp_path)

    unknown = "Git does not know this revision, so the figures may be older than the package."
    assert history.present(tmp_path) == "unknown"
    assert history.age("unknown", tmp_path) == unknown
    git("init")
    commit("gaussjax/other.py", "")
    old = commit("gaussjax/policy.py", "one")
    commit("benchmarks/act.py", "slow")
    new = commit("benchmarks/results/README.md", "a page")
    assert history.age(old, tmp_path) == ""
    assert history.current(old, tmp_path)
    assert not history.current(f"{old}-dirty", tmp_path)
    (tmp_path / "README.md").write_text("pages are not code")
    git("add", "-A")
    assert history.present(tmp_path) == new
    (tmp_path / "gaussjax/policy.py").write_text("two")
    history.since.cache_clear()
    assert history.present(tmp_path) == f"{new}-dirty"
    assert (
        history.age(old, tmp_path) == "**Older than the package: since then uncommitted edits changed 1 file of it.**"
    )
    commit("gaussjax/policy.py", "two")
    latest = commit("gaussjax/policy.py", "three")
    assert history.age(old, tmp_path) == "**Older than the package: since then 2 commits changed 1 file of it.**"
    # A page that mixes revisions is as old as the oldest that git knows.
    assert history.since(f"{latest}, {old}-dirty and 1234567", tmp_path) == (2, 1)
    assert not history.current(old, tmp_path)
    assert history.age("1234567", tmp_path) == history.age("unknown", tmp_path) == unknown


@pytest.mark.parametrize(
    ("changed", "measures"),
    [
        ({}, False),
        ({"revision": "old"}, True),
        ({"sizes": "1"}, True),
        ({"peers": "none"}, True),
        ({"share_of_cpu_used_by_others": 0.5}, True),
        (None, True),
    ],
)
def test_bench_goes_on_where_it_stopped(
    changed: dict[str, object] | None, measures: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, machine = tmp_path / "act-cpu.json", {"revision": "new", "share_of_cpu_used_by_others": 0.0}
    if changed is not None:
        file.write_text(json.dumps({**machine, "sizes": None, "peers": None, **changed}))
    monkeypatch.setattr(history, "current", lambda revision: revision == "new")
    began = []
    monkeypatch.setattr(commands, "measured", lambda *_: began.append(True) or sys.exit())
    try:
        commands.main(["act", "--resume", "--json", str(file)])
    except SystemExit:
        assert began
    assert bool(began) == measures


def test_blocks_without_results_say_so_and_have_marks_on_the_page(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs/costs.md").read_text()
    for name, text in summary.blocks(tmp_path).items():
        assert text.startswith("Not measured yet: `python -m benchmarks ")
        assert f"<!-- {name}: written by `python -m benchmarks report` -->\n" in page


def test_gain_of_a_setting_is_its_time_over_the_time_without_it() -> None:
    times = [{"median": 2e-3}, {"median": 5e-4}]
    calls = [
        {"line": "a flag", "title": "a call", "times": times},
        {"line": "a flag", "title": "b", "times": [None, None]},
    ]
    page = tuning.markdown({"calls": calls, "not_measured": {}})
    assert "| a flag | a call | 2 ms | 500 µs | **0.25×** |" in page
    assert "| a flag | b | not measured | not measured | not measured |" in page


def test_memory_of_peers_stands_beside_ours() -> None:
    row = {"title": "PPO", "peak": {"gaussjax-command": 2**29, "sb3-training": 2**30}, "stated": {}}
    tests = [{"title": "again", "seconds": 61.4, "said": "7 passed in 60.1s"}]
    page = footprint.markdown({"memory": [row], "tests": tests, "not_measured": {}})
    assert "| MiB resident | gaussjax, training, inline | SB3, training |" in page
    assert "| PPO | 512.0 | 1,024.0 |" in page
    assert "| `make test` again: 7 passed | 61 s |" in page


@pytest.mark.parametrize(("bar", "shown"), [(2.0, "≥ 2.0×"), (None, "none")])
def test_a_comparison_without_a_bar_has_no_verdict(bar: float | None, shown: str) -> None:
    times = {name: {**runner.summary([[s]], s), "processor": s} for name, s in (("gaussjax", 1.0), ("sb3", 1.5))}
    measured = {"cases": [{"times": times, "refused": {}}], "not_measured": {}, "share_of_cpu_used_by_others": 0.0}
    page = throughput.beside([("PPO", ("gaussjax", "sb3"), 30, bar, measured)])
    verdict = "" if bar is None else "**missed**"
    assert f"|  | SB3 | 20 (20–20) | {shown} | **1.50×** | 1.50× | 1.50× | 1.50× | {verdict} |" in page


def test_every_contender_that_a_command_names_has_a_module(repository: Path) -> None:
    modules = act, serving, evaluate, recurrent, population, ppo, sac, cloning, compiled, scaling
    named = {name for module in modules for name in (*module.CONTENDERS, *getattr(module, "ACCELERATOR", ()))}
    named |= {name for kind in act.KINDS for name in kind[:2]}
    named |= {name for loop in inside.LOOPS.values() for name in loop.names}
    named |= {name for *_, names in footprint.TRAININGS for name in names} | set(population.EVOLUTION)
    named |= {setting.contender for setting in tuning.SETTINGS if setting.contender}
    named |= {name for case in settings.CASES.values() for name in case.arguments}
    assert len(named) > 40
    for name in named:
        assert (repository / f"benchmarks/contenders/{CONTENDERS[name].module}.py").exists()


def test_headline_links_to_sections_that_the_page_has(repository: Path) -> None:
    linked = re.findall(r"benchmarks/results/README\.md#([\w-]+)", (repository / "README.md").read_text())
    heads = re.findall(r"^## (\w+) \((\w+)\)$", (repository / "benchmarks/results/README.md").read_text(), re.MULTILINE)
    assert len(linked) == 3
    assert set(linked) <= {"-".join(head) for head in heads}


def test_summary_keeps_the_processes_apart() -> None:
    kept = runner.summary([[1.0, 1.0, 9.0], [4.0, 5.0, 6.0], [2.0, 2.0, 2.0]], 7.0)
    assert (kept["median"], kept["best"], kept["fastest"]) == (2.0, 1.0, 1.0)
    assert kept["processes"] == [1.0, 5.0, 2.0]


def test_gsde_is_compared_with_white_noise_on_the_seeds_of_both(tmp_path: Path) -> None:
    def run(seed: int, change: float, reached: float) -> dict[str, object]:
        smooth = {"smoothness": [0.1, 0.1, 0.0], "sampled_smoothness": [change, change, 0.25]}
        return {"seed": seed, "returns": [reached], "curve": [[1, reached], [9, reached]], **smooth}

    white, gsde = [run(0, 1.0, 100.0), run(1, 1.0, -900.0)], [run(0, 0.4, 89.0)]
    found = {"exploration": {"sac-pendulum-white": white, "sac-pendulum-gsde": gsde}, "device": "cpu"}
    page = exploration.markdown(found)
    assert "| SAC, Pendulum-v1 | 1 | 0.40 ≤ 0.5 kept | 89 ≥ 90 **missed** |" in page
    assert "squashed, white noise | 2 of 5 | 100, -900 | -400 | 0.1 | 1 | 25.0% |" in page
    exploration.plots(found, tmp_path)
    assert (tmp_path / "exploration-cpu.svg").exists()
    (tmp_path / "page.md").write_text(
        "<!-- comparison: written by `python -m benchmarks report` -->\nold\n<!-- comparison: end -->\n"
    )
    summary.fill(tmp_path / "page.md", {"comparison": page})
    assert page in (tmp_path / "page.md").read_text()
    marks = (Path(__file__).parent.parent / "docs/exploration.md").read_text()
    assert "<!-- comparison: written by `python -m benchmarks report` -->\n" in marks


@pytest.mark.slow
def test_page_shows_the_measured_contenders_and_names_the_missing_ones(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks"]
    options = ["--sizes", "16", "--processes", "1", "--rounds", "1", "--turn", "0.002"]
    where = ["--peers", "brax", "--environments", str(tmp_path), "--json", str(tmp_path / "act-cpu.json")]
    subprocess.run([*command, "act", *options, *where], cwd=repository, check=True, capture_output=True)
    subprocess.run([*command, "report", "--folder", str(tmp_path)], cwd=repository, check=True, capture_output=True)

    results = json.loads((tmp_path / "act-cpu.json").read_text())
    page = (tmp_path / "README.md").read_text()
    assert results["not_measured"].keys() == {"brax"}
    assert "Not measured: brax (no environment brax" in page
    for case in results["cases"]:
        assert case["times"].keys() == {"gaussjax"}
        assert report.number(1e6 * case["times"]["gaussjax"]["median"]) in page
    assert (tmp_path / "act-cpu.svg").stat().st_size > 1000


def test_floor_of_act_is_its_bytes_over_the_bandwidth_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(act, "_COPIED", 2**20)
    options = argparse.Namespace(device="cpu", processes=1, rounds=1, turn=0.002, environments=tmp_path)
    (floor,) = act._floors([2**20], options)
    # 60 observations are read; four arrays of 8 and the log-density are written; 4 bytes each.
    assert floor["bytes"] == 2**20 * 4 * (60 + 4 * 8 + 1)
    assert floor["seconds"] == pytest.approx(floor["bytes"] / floor["bandwidth"])
    times = {"gaussjax": {"best": 4.0 * floor["seconds"]}}
    case = {"case": {"batch": 2**20, "resident": True}, "times": times}
    assert "25.0%" in report.floors({"floors": [floor], "cases": [case]})


@pytest.mark.parametrize(("ours", "shown"), [(2.0, "kept"), (2.5, "**missed**")])
def test_bar_on_steps_per_second_compares_the_times(ours: float, shown: str) -> None:
    times = {sac.CONTENDERS[0]: ours, "sbx-training": 3.4}
    kept = {name: runner.summary([[seconds]], seconds) for name, seconds in times.items()}
    case = {"case": {"environment": "Pendulum-v1", "num_steps": 512, "batch_size": 256}, "times": kept, "refused": {}}
    results = {"cases": [case], "not_measured": {"sb3-training": "no environment"}, "device": "cpu"}
    page = sac.markdown({**results, "share_of_cpu_used_by_others": 0.0})
    assert f"{512 / ours:,.0f}" in page
    assert f"{3.4 / ours:.2f}× | {shown}" in page
    assert "| 3.0× | not measured | not measured |" in page
    assert "no evidence" in throughput.bars(
        {**results, "share_of_cpu_used_by_others": 0.5}, sac.CONTENDERS, sac.BARS, ["Pendulum-v1"]
    )


def test_readme_shows_only_quiet_measurements(repository: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    mark = "<!-- speed: written by `python -m benchmarks report` -->\n<!-- speed: end -->\n"
    main_job = mark.replace("speed", "main job")
    for name in ("main_job", "ppo"):
        results = json.loads((repository / f"benchmarks/results/{name}-cpu.json").read_text())
        results["share_of_cpu_used_by_others"] = 0.0 if name == "ppo" else 0.5
        (tmp_path / f"{name}-cpu.json").write_text(json.dumps(results))
    readme.write_text(f"before\n{mark}between\n{main_job}after\n")
    summary.fill(readme, summary.blocks(tmp_path))
    ours = results["cases"][1]["times"]["gaussjax-command"]["median"]
    text = readme.read_text()
    assert f"| PPO, HalfCheetah-v5 | {8 * 256 / ours:,.0f} |" in text
    # Each table has one line with the date and the machine of its own results.
    assert text.count("Measured ") == 1
    where = "{cores} cores of {processor}".format(**results["machine"])
    assert f"Measured {results['date']} on {where}" in text
    assert text.endswith(f"between\n{main_job}after\n")
