"""Eight devices, and two processes, learn what one device learns."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys

import numpy as np
import pytest

# Sums in another order: relative to the largest number of an array, after two updates.
ROUNDING = 1e-4


def start(*arguments, devices=1):
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", "tests.training.devices", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def found(process):
    printed, _ = process.communicate(timeout=300)
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
def pair(eight):
    port = free_port()
    both = [start("pair", port, str(index)) for index in range(2)]
    return [found(process) for process in both]


def test_eight_devices_learn_what_one_learns(eight):
    assert eight["devices"] == 8
    assert eight["learnt"] < ROUNDING
    assert eight["metrics"] < ROUNDING
    assert eight["standing"] < ROUNDING
    assert eight["ended"] == 5.0
    assert_close(eight["host_reference"], eight["host"])


def test_environments_are_spread_and_the_rest_is_whole(eight):
    assert eight["parts"] == [2]
    assert eight["whole"] is True


def test_rollout_noise_and_population_need_no_communication(eight):
    assert eight["rollout_collectives"] == []
    assert eight["noise_collectives"] == []
    assert eight["population_collectives"] == []


def test_policy_acts_and_evaluates_on_a_spread_batch_as_on_one_device(eight):
    assert eight["noise"] is True
    assert eight["actions_parts"] == 8
    assert eight["actions"] < 1e-6
    assert eight["evaluations"] < 1e-6


def test_observation_statistics_are_combined_by_sums(eight):
    assert eight["statistics"] < 1e-6
    assert eight["statistics_gathered"] is False


def test_checkpoint_of_eight_devices_goes_on_there_and_on_one(eight):
    assert eight["restored"] is True
    assert eight["resumed_on_eight"] is True
    assert eight["resumed_on_one"] < ROUNDING


def test_mesh_of_any_shape_is_a_row_of_devices(eight):
    assert eight["own_mesh"] == 8


def test_counts_that_do_not_divide_over_the_mesh_are_refused(eight):
    assert re.match(
        r"num_envs: expected a multiple of the 8 devices of the mesh, got 12. Choose one such as 16,", eight["num_envs"]
    )
    assert re.match(r"batch_size: expected a multiple of the 8 devices of the mesh, got 4.", eight["batch_size"])


def test_two_processes_learn_what_one_learns(eight, pair):
    assert [process["processes"] for process in pair] == [2, 2]
    assert pair[0]["learnt"] == pair[1]["learnt"]
    assert_close(eight["reference"], pair[0]["learnt"])


def test_two_processes_with_half_of_the_gymnasium_environments_each_learn_what_one_learns(eight, pair):
    assert pair[0]["host"] == pair[1]["host"]
    assert_close(eight["host_reference"], pair[0]["host"])


def test_first_process_leads_and_all_agree(pair):
    assert [process["leads"] for process in pair] == [True, False]
    assert [process["any"] for process in pair] == [[True, False], [True, False]]
