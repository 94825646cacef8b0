"""Eight devices learn what one device learns, and so do two processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import gaussjax
from tests import policies

# Sums in another order: relative to the largest number of an array, after two updates.
ROUNDING = 1e-4
# Seconds after which a process that hangs fails its test.
LIMIT = 1200
SMALL = "--num-envs 4 --num-steps 64 --batch-size 64 --num-epochs 2 --hidden-sizes 8"


def start(*arguments, devices=1):
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    if devices > 1:
        environment["JAX_DISABLE_JIT"] = "0"  # The collectives of compiled programs are counted.
    command = [sys.executable, "-m", "tests.training.devices", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def found(process):
    printed, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    return json.loads(printed.splitlines()[-1])


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def assert_close(one, two, relative=ROUNDING):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=relative * max(np.abs(a).max(), 1e-3))


@pytest.fixture(scope="module")
def eight():
    return found(start("eight", devices=8))


@pytest.fixture(scope="module")
def more():
    return found(start("more", devices=8))


def pair(*options):
    port = free_port()
    both = [start("pair", port, str(index), *options) for index in range(2)]
    return [found(process) for process in both]


@pytest.mark.slow
def test_eight_devices_learn_what_one_learns(more):
    assert all(more[name] < ROUNDING for name in ("learnt", "metrics", "standing"))
    assert more["ended"] == 5.0
    # Environments are spread, and the rest is whole.
    assert more["parts"] == [2]
    assert more["whole"] is True
    # A checkpoint goes on there and on one device.
    assert more["restored"] is True
    assert more["resumed_on_eight"] is True
    assert more["resumed_on_one"] < ROUNDING


def test_policy_acts_and_evaluates_on_a_spread_batch_as_on_one_device(eight):
    assert eight["devices"] == 8
    assert eight["noise"] is True
    assert eight["noise_collectives"] == []
    assert eight["actions_parts"] == 8
    assert all(eight[name] < 1e-6 for name in ("actions", "evaluations"))


def test_observation_statistics_are_combined_by_sums(eight):
    assert eight["statistics"] < 1e-6
    assert eight["statistics_gathered"] is False


def test_mesh_of_any_shape_is_a_row_of_devices_over_which_the_counts_have_to_divide(eight):
    assert eight["own_mesh"] == 8
    assert eight["num_envs"].startswith("num_envs: expected a multiple of the 8 devices of the mesh, got 12. Choose")
    assert eight["batch_size"].startswith("batch_size: expected a multiple of the 8 devices of the mesh, got 4.")


def test_policies_and_statistics_work_on_explicit_axes(eight):
    assert len(eight["explicit"]) == 3
    assert all(differs < ROUNDING and sharded for differs, sharded in eight["explicit"].values())
    assert eight["explicit_statistics"] < 1e-6


@pytest.mark.slow
def test_every_policy_acts_scores_and_learns_on_explicit_axes():
    kinds = found(start("kinds", devices=8))["kinds"]
    assert {name.split()[0] for name in kinds} == set(policies.TABLE)
    assert {name: differs for name, (differs, sharded) in kinds.items() if not (differs < ROUNDING and sharded)} == {}


@pytest.mark.slow
def test_seeds_shared_among_devices_learn_what_each_learns_alone():
    differs = found(start("seeds", devices=8))
    assert differs.pop("devices") == 8
    assert len(differs) == 6
    assert all(value < ROUNDING for value in differs.values()), differs


@pytest.mark.slow
def test_noise_that_lasts_is_the_same_on_every_mesh():
    lasting = found(start("lasting", devices=8))
    for name in ("held", "colored"):
        assert lasting[f"{name} noise"] is True
        assert lasting[f"{name} learnt"] < ROUNDING
        assert lasting[f"{name} collectives"] == []
        assert_close(lasting[f"{name} alone"], lasting[f"{name} shared"])


@pytest.mark.slow
def test_a_loop_keeps_its_mesh_whatever_mesh_is_set():
    differs = found(start("contexts", devices=8))
    assert differs.pop("devices") == 8
    assert len(differs.pop("counts")) == 4
    assert len(differs) == 4
    assert all(value < ROUNDING for value in differs.values()), differs


@pytest.mark.slow
def test_devices_and_processes_learn_alike_on_an_environment_of_brax():
    pytest.importorskip("brax")
    brax = found(start("brax", devices=8))
    assert sorted(brax["counts"]) == ["1", "2", "4", "8"]
    assert all(value < ROUNDING for value in brax["counts"].values()), brax["counts"]
    first, second = pair("brax")
    assert first["learnt"] == second["learnt"]
    assert_close(brax["reference"], first["learnt"])


def test_two_processes_agree_and_notice_the_end_of_one():
    first, second = pair()
    assert (first["processes"], second["processes"]) == (2, 2)
    assert (first["leads"], second["leads"]) == (True, False)
    assert first["any"] == second["any"] == [True, False]
    assert (first["lost"], first["own_fault"]) == (True, False)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(more):
    first, second = pair("compiled")
    assert first["learnt"] == second["learnt"]
    assert_close(more["reference"], first["learnt"])


@pytest.mark.slow
def test_rollout_and_population_need_no_communication(more):
    assert more["rollout_collectives"] == []
    assert more["population_collectives"] == []
    assert more["population"] < ROUNDING


@pytest.mark.slow
def test_gymnasium_environments_over_devices_and_processes_teach_what_one_learns(more):
    first, second = pair("host")
    assert first["host"] == second["host"]
    assert_close(more["host_reference"], first["host"])
    assert_close(more["host_reference"], more["host"])


@pytest.fixture
def two_trainings():
    """Starts both processes and waits for some updates; whatever a test leaves running is ended."""
    started = []

    def start_both(folder, *options):
        command = [sys.executable, "-m", "gaussjax.cli.main", "train", "ppo", "Pendulum-v1", "--out", str(folder)]
        command += [*SMALL.split(), *options, "--distributed"]
        port, pipes = free_port(), {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.extend(subprocess.Popen([*command, f"127.0.0.1:{port},2,{index}"], **pipes) for index in range(2))
        metrics = folder / "metrics.csv"
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline and not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
            time.sleep(0.1)
        return started

    yield start_both
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "codes"), [("SIGINT", (130, 130)), ("SIGKILL", (1, -9))])
@pytest.mark.parametrize("backend", ["jax", "gymnasium"])
def test_end_of_one_process_ends_both_and_keeps_the_policy(tmp_path, two_trainings, backend, name, codes):
    folder = tmp_path / "run"
    both = two_trainings(folder, "--backend", backend, "--total-steps", "100000000")
    both[1].send_signal(getattr(signal, name))
    printed = [process.communicate(timeout=LIMIT) for process in both]
    assert tuple(process.returncode for process in both) == codes
    assert gaussjax.load(folder / "policy.safetensors").metadata["steps"] >= 3 * 256
    if name == "SIGINT":
        # The second process prints nothing but what JAX itself does.
        assert "Interrupted" in printed[0][0]
        assert "Interrupted" not in printed[1][0] + printed[1][1]
        assert (folder / "checkpoint.safetensors").exists()
    else:
        assert "gaussjax: distributed: another process has ended" in printed[0][1]


@pytest.mark.slow
def test_error_that_nothing_foresees_ends_a_process_at_once(tmp_path, two_trainings):
    folder = tmp_path / "run"
    both = two_trainings(folder, "--total-steps", "100000000", "--checkpoint-every", "1")
    folder.rename(tmp_path / "elsewhere")
    # An orderly end would wait for the second process, which waits for the first one's next numbers.
    _, printed = both[0].communicate(timeout=LIMIT)
    both[1].communicate(timeout=LIMIT)
    assert both[0].returncode == 1
    assert str(folder) in printed


@pytest.mark.slow
def test_second_process_does_not_wait_for_the_evaluation_of_the_first(tmp_path, two_trainings):
    both = two_trainings(tmp_path / "run", "--total-steps", "2048", "--evaluation-episodes", "1000000")
    _, printed = both[1].communicate(timeout=LIMIT)
    assert (both[0].poll(), both[1].returncode) == (None, 0), printed
    both[0].send_signal(signal.SIGINT)
    printed, told = both[0].communicate(timeout=LIMIT)
    assert both[0].returncode == 130
    assert "of training" in printed
    complete = f"gaussjax: interrupted: the training is complete. Repeat: gaussjax evaluate {tmp_path / 'run'}"
    assert told.splitlines()[-1] == complete
