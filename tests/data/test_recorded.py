"""Readers of recorded experience from memory, .npz and .csv; other formats are in the files beside this one."""

import jax
import numpy as np
import pytest

from gaussjax import data
from gaussjax.data import episodes as records
from gaussjax.data.episodes import Rows
from gaussjax.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

RNG = np.random.default_rng(0)
BOX = Box(-1.0, 1.0, (2,))
NESTED = Dict((("camera", Box(0, 255, (4, 4, 3), "uint8")), ("mode", Discrete(3)), ("speed", Box(shape=(2,)))))
LENGTHS = (3, 5, 2)


def actions(length):
    return RNG.uniform(-1.0, 1.0, (length, 2)).astype(np.float32)


def episode(length, **more):
    """An episode with a last observation that has no action."""
    return {
        "observations": {
            "camera": RNG.integers(0, 256, (length + 1, 4, 4, 3), np.uint8),
            "mode": RNG.integers(0, 3, length + 1),
            "speed": RNG.normal(size=(length + 1, 2)),
        },
        "actions": actions(length),
        "rewards": RNG.normal(size=length),
        "terminations": np.arange(length) == length - 1,
        "truncations": np.zeros(length, bool),
        **more,
    }


EPISODES = [episode(length) for length in LENGTHS]
TOTAL = sum(LENGTHS)
# The same data without the last observations, one array for each leaf.
FLAT = {
    f"observations/{name}": np.concatenate([each["observations"][name][:-1] for each in EPISODES])
    for name in EPISODES[0]["observations"]
} | {name: np.concatenate([each[name] for each in EPISODES]) for name in EPISODES[0] if name != "observations"}


def saved(save):
    def make(folder):
        save(folder / "data.npz", **FLAT)
        return folder / "data.npz"

    return make


def steps(each):
    """An episode as a list of dicts, one for each observation."""
    leaves = each["observations"]
    return [{name: leaf[t] for name, leaf in leaves.items()} for t in range(len(leaves["mode"]))]


SOURCES = {
    "a list of dicts": lambda folder: EPISODES,
    "dicts of each step": lambda folder: [{**each, "observations": steps(each)} for each in EPISODES],
    "a dict": lambda folder: FLAT,
    "episodes": lambda folder: data.read_dataset(EPISODES),
    "an .npz file": saved(np.savez),
    "a compressed .npz file": saved(np.savez_compressed),
}


def assert_equal(found, expected=None):
    """Asserts that episodes are those of EPISODES, in the dtypes of the spaces."""
    dtypes = jax.tree.map(lambda leaf: leaf.dtype.name, found.observations)
    assert dtypes == {"camera": "uint8", "mode": "int32", "speed": "float32"}
    assert found.actions.dtype == found.rewards.dtype == np.float32
    assert found.starts.dtype == found.terminated.dtype == found.truncated.dtype == bool
    np.testing.assert_array_equal(np.flatnonzero(found.starts), np.cumsum((0, *LENGTHS[:-1])))
    for name, leaf in found.observations.items():
        np.testing.assert_array_equal(leaf, FLAT[f"observations/{name}"].astype(leaf.dtype))
    for name, field in (("actions", "actions"), ("rewards", "rewards"), ("terminations", "terminated")):
        np.testing.assert_array_equal(getattr(found, field), FLAT[name].astype(getattr(found, field).dtype))
    assert not np.asarray(found.truncated).any()
    assert found.weights is None


@pytest.mark.parametrize("name", SOURCES)
def test_sources_hold_the_same_episodes_in_the_dtypes_of_the_spaces(tmp_path, name):
    assert_equal(data.read_dataset(SOURCES[name](tmp_path), NESTED, BOX))


def test_a_large_file_stays_on_disk_with_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 0)
    for module in (data.npz, data.recorded):
        monkeypatch.setattr(module, "IN_MEMORY", 0)
    np.savez(tmp_path / "data.npz", **FLAT)
    found = data.read_dataset(tmp_path / "data.npz", NESTED, BOX)
    assert all(isinstance(leaf, Rows) for leaf in jax.tree.leaves(found))
    assert_equal(data.rows(found, slice(None)))
    data.check(found, NESTED, BOX)
    middle = data.rows(found, slice(2, 7, 2))
    np.testing.assert_array_equal(middle.actions, FLAT["actions"][2:7:2])
    assert middle.starts.tolist() == [False, False, False]
    with pytest.raises(TypeError, match="expected a slice"):
        found.actions[3]
    FLAT["actions"][4, 1], kept = np.nan, FLAT["actions"][4, 1]
    np.savez(tmp_path / "data.npz", **FLAT)
    FLAT["actions"][4, 1] = kept
    found = data.read_dataset(tmp_path / "data.npz", NESTED, BOX)
    data.rows(found, slice(0, 4))
    with pytest.raises(ValueError, match=r"actions: expected finite numbers .* got nan in episode 1, step 1 "):
        data.rows(found, slice(3, 6))


def test_without_spaces_floats_are_float32_and_integers_stay():
    found = data.read_dataset(
        {"obs": (np.zeros((3, 2), ">f8"), np.arange(3, dtype=np.uint8)), "actions": [1, 2, 3], "weights": [1, 0, 2]}
    )
    assert [leaf.dtype for leaf in found.observations] == [np.float32, np.uint8]
    assert found.actions.dtype == np.float32
    assert found.actions.tolist() == [[1.0], [2.0], [3.0]]
    assert found.weights.tolist() == [1.0, 0.0, 2.0]
    assert found.starts is None
    pairs = data.read_dataset([(np.zeros((3, 2)), np.zeros((2, 1))), (np.zeros((1, 2)), np.zeros((1, 1)))])
    assert pairs.starts.tolist() == [True, False, True]
    whole = np.zeros((3, 2), np.float32)
    assert np.shares_memory(data.read_dataset({"observations": whole, "actions": whole}).observations, whole)


def test_other_shapes_of_a_row_are_reshaped():
    space = Tuple((Box(shape=(2, 3)), MultiDiscrete((2, 2)), Box(shape=(1,)), Discrete(3)))
    given = {
        "observations/_index_3": np.ones((4, 1), int),
        "observations/_index_0": np.zeros((4, 6)),
        "observations/_index_1": np.zeros((4, 2), np.int64),
        "observations/_index_2": np.zeros((4, 1)),
        "actions": np.zeros(4),
    }
    found = data.read_dataset(given, space, Box(-1.0, 1.0, (1,)))
    rows = data.read_dataset(data.Episodes(found.observations, found.actions.tolist(), [[1], [0], [1], [0]]))
    assert rows.actions.shape == (4, 1)
    assert rows.starts.tolist() == [True, False, True, False]
    assert [leaf.shape for leaf in found.observations] == [(4, 2, 3), (4, 2), (4, 1), (4,)]
    assert found.actions.shape == (4, 1)


def test_reads_npz_csv_and_dicts_alike(tmp_path):
    seen = np.arange(6, dtype=np.float32).reshape(3, 2)
    done = np.array([[0.5], [0.25], [-1.0]], np.float32)
    np.savez_compressed(tmp_path / "data.npz", observations=np.asfortranarray(seen), actions=done, infos=[object()])
    (tmp_path / "data.NPZ").write_bytes((tmp_path / "data.npz").read_bytes())
    lines = ["action_0, observation_1,observation_0,reward,weights"]
    lines += [f"{a[0]},{o[1]},{o[0]},0, 0.5" for o, a in zip(seen, done, strict=True)]
    # A spreadsheet begins its files with a byte order mark.
    (tmp_path / "data.csv").write_text("\n".join(lines), "utf-8-sig")
    assert data.read_dataset(tmp_path / "data.csv").weights.tolist() == [0.5] * 3
    # Minari keeps the observation after the last action.
    longer = {"observations": np.concatenate([seen, [[9, 9]]]), "actions": done}
    for source in (tmp_path / "data.npz", tmp_path / "data.NPZ", str(tmp_path / "data.csv"), longer):
        dataset = data.read_dataset(source)
        np.testing.assert_array_equal(dataset.observations, seen)
        np.testing.assert_array_equal(dataset.actions, done)


def changed(index, name, change):
    """EPISODES with one leaf of one episode changed."""

    def make():
        copies = [jax.tree.map(np.copy, each) for each in EPISODES]
        node = copies[index]
        *path, last = name.split("/")
        for part in path:
            node = node[part]
        node[last] = change(node[last])
        return copies

    return make


def put(at, value):
    def change(leaf):
        leaf[at] = value
        return leaf

    return change


def without(name):
    return [{key: leaf for key, leaf in each.items() if i != 1 or key != name} for i, each in enumerate(EPISODES)]


HERE = "^dataset: "
BAD = {
    "NaN": (changed(1, "observations/speed", put((2, 1), np.nan)), r"observations\['speed'\]: expected finite numbers "
            r"in float32, got nan in episode 1, step 2 \(1 of 10 rows\)\. Correct the values, or leave"),
    "infinite in float32": (changed(2, "observations/speed", put(1, 1e300)), "got 1e.300 in episode 2, step 1"),
    "outside the Box": (changed(2, "actions", put((0, 1), 1.5)), r"actions: expected actions within the Box from "
                        r"\[-1.0, -1.0\] to \[1.0, 1.0\], got 1.5 in episode 2, step 0 .* Clip them to the Box"),
    "no element": (changed(0, "observations/mode", put(1, 3)), r"'mode'\]: expected elements of Discrete.* got 3 in "
                   "episode 0, step 1 .*Correct the values"),
    "a wide integer": (changed(0, "observations/mode", put(1, 2**32)), "got 4294967296 in episode 0, step 1"),
    "a wide pixel": (changed(0, "observations/camera", lambda leaf: put((1, 0, 0, 0), 256)(leaf.astype(int))),
                     "got 256 in episode 0, step 1"),
    "NaN reward": (changed(1, "rewards", put(0, np.nan)), "rewards: expected finite .* got nan in episode 1, step 0"),
    "a flag of 2": (changed(1, "terminations", lambda leaf: leaf * 2), "terminated: expected True or False, got 2 in "
                    "episode 1, step 4"),
    "ragged": (changed(1, "observations/speed", lambda leaf: leaf[:3]), r"episode 1: expected one action for each "
               r"observation, got 3 observations\['speed'\] and 5 actions"),
    "ragged rewards": (changed(1, "rewards", lambda leaf: leaf[:3]), "episode 1: .* got 3 rewards and 5 actions"),
    "ragged rows": (changed(1, "rewards", lambda leaf: [[1.0], [1.0, 2.0]]), "episode 1: rewards: expected rows of "
                    "equal length"),
    "other widths": (changed(1, "actions", lambda leaf: leaf[:, :1]), r"episode 1: actions: expected rows of shape "
                     r"\(2,\) as in episode 0, got \(1,\)"),
    "empty": (changed(1, "actions", lambda leaf: leaf[:0]), "episode 1: expected at least one step, got an empty ep"),
    "no actions": (lambda: without("actions"), "episode 1: expected observations and actions, got"),
    "no rewards": (lambda: without("rewards"), "episode 1: expected .*'rewards'.* as in episode 0, got"),
    "other keys": (changed(1, "observations", lambda leaf: {"speed": leaf["speed"]}), "episode 1: observations: exp"),
    "no episode": (list, "expected at least one episode, got none"),
    "no arrays": (lambda: [EPISODES[0], 3], "episode 1: expected a dict of arrays, or a pair of .* got int"),
    "text": (changed(1, "actions", lambda leaf: leaf.astype(str)), "episode 1: actions: expected an array of real"),
    "keys of another space": (lambda: {**FLAT, "observations/hand": FLAT["actions"]}, r"observations: expected a dict "
                              r"with the keys \['camera', 'mode', 'speed'\], got the keys \['camera', 'hand'"),
    "float pixels": (lambda: {**FLAT, "observations/camera": FLAT["observations/camera"] / 255.0}, r"\['camera'\]: "
                     r"expected integers from 0 to 255, got float64"),
    "float modes": (lambda: {**FLAT, "observations/mode": FLAT["rewards"]}, r"\['mode'\]: expected integers for Disc"
                    r".* Use observations\['mode'\]\.astype"),
    "other shapes": (lambda: {**FLAT, "actions": np.zeros((TOTAL, 3))}, r"actions: expected \(..., 2\), got \(1, 3\)"),
    "several rewards": (lambda: {**FLAT, "rewards": np.zeros((TOTAL, 2))}, r"rewards: expected rows of shape \(\)"),
    "negative weights": (lambda: {**FLAT, "weights": -np.ones(TOTAL)}, "weights: expected weights of 0 or more, got"),
    "no first start": (lambda: {**FLAT, "starts": np.zeros(TOTAL, bool)}, "starts: expected True in the first row"),
    "an array and its parts": (lambda: {**FLAT, "observations": FLAT["actions"]}, "expected each name once"),
    "two actions": (lambda: {**FLAT, "actions": {"a": FLAT["actions"]}}, "actions: expected one array, got several"),
    "two rewards": (lambda: {**FLAT, "rewards": (FLAT["rewards"],)}, "rewards: expected one array, got several"),
    "flags by name": (lambda: {**FLAT, "dones": {"a": FLAT["terminations"]}, "terminations": None},
                      "dones: expected one array"),
    "a key of one step": (lambda: [{**EPISODES[0], "observations": [*steps(EPISODES[0])[:2], {"mode": 1}]}],
                          r"episode 0: observations: expected the keys \['camera', .* got \['mode'\] in step 2"),
    "keys of random numbers": (lambda: {**FLAT, "rewards": jax.random.split(jax.random.key(0), TOTAL)}, "rewards: expec"
                               "ted an array that NumPy can convert"),
    "two weights": (lambda: data.Episodes(FLAT["actions"], FLAT["actions"], weights={}), "weights: expected one array"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_named_by_episode_and_step(name):
    make, says = BAD[name]
    with pytest.raises(ValueError, match=f"{HERE}.*{says}") as caught:
        data.read_dataset(make(), NESTED, BOX)
    assert "\n" not in str(caught.value)


def test_rows_of_unknown_episodes_are_named_by_their_number():
    given = data.Episodes(np.zeros((4, 2), np.float32), np.zeros((4, 1)))
    given.observations[3, 1] = np.inf
    with pytest.raises(ValueError, match=r"^recorded: observations: .* got inf in row 3 "):
        data.check(given, 2, Box(shape=(1,)), "recorded")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"observations": np.zeros((3, 2))}, "expected observations and actions, got"),
        ({"observations": [[1.0], [1.0, 2.0]], "actions": np.zeros(2)}, "observations: expected rows of equal length"),
        ({"observations": np.zeros(2), "actions": np.zeros(2, "M8[s]")}, "actions: .* got datetime64"),
        ({"observations": np.ma.ones(2), "actions": np.zeros(2)}, "observations: .* got a masked array"),
        ({"observations": [np.ma.ones(2)], "actions": np.zeros(1)}, "observations: .* got a masked array"),
        ({"observations": np.zeros((3, 2)), "actions": np.zeros((5, 1))}, "got 3 observations and 5 actions"),
        ({"observations": np.zeros((0, 2)), "actions": np.zeros((0, 1))}, "expected at least one action, got none"),
        ({"observations": np.array([[0.0], [np.nan]]), "actions": np.zeros((2, 1))}, "got nan in row 1"),
    ],
)
def test_unusable_data_is_refused(columns, says):
    with pytest.raises(ValueError, match=says):
        data.read_dataset(columns)


@pytest.mark.parametrize("space", [Discrete(3), MultiDiscrete((2, 2))])
def test_other_action_spaces_than_a_box_are_refused_as_such(space):
    given = {"observations": np.zeros((3, 2)), "actions": np.zeros((3, 2), int)}
    with pytest.raises(TypeError, match=r"action_space: expected a Box, got .* use a categorical policy"):
        data.read_dataset(given, 2, space)


def test_actions_of_an_integer_box_are_whole():
    given, box = {"observations": np.zeros((2, 2)), "actions": np.array([[3.0], [17.0]])}, Box(0, 250, (1,), "uint8")
    assert data.read_dataset(given, 2, box).actions.tolist() == [[3], [17]]
    given["actions"][1] = 17.6
    with pytest.raises(ValueError, match=r"actions: expected uint8 numbers, got 17.6 in row 1 .* Round the values"):
        data.read_dataset(given, 2, box)


def test_rows_are_chosen_by_a_slice():
    found = data.read_dataset(FLAT, NESTED, BOX)
    with pytest.raises(TypeError, match=r"index: expected a slice of the rows, got 3. Write slice\(3, 4\)"):
        data.rows(found, 3)


EMPTY = r"data.csv: .* expected columns observation_0, observation_1, …, got \[\]"
NO_NPZ = r"dataset: .*data.npz: expected an .npz file of arrays, got another"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("data.csv", b"", EMPTY),
        ("data.csv", b"x,y\n1,2\n", "expected columns observation_0"),
        ("data.csv", b"observation_0,action_0\n", "expected at least one action, got none"),
        (
            "data.csv",
            b"observation_0,action_0\n1,2\n\n3\n",
            r"expected 2 numbers as the header names columns, got 1 in line 4",
        ),
        (
            "data.csv",
            b"observation_0,action_0\n1,x\n",
            r"data.csv: .* expected numbers, got \['1', 'x'\] in line 2",
        ),
        ("data.csv", b"observation_0,action_0\n1,\xff\n", r"data.csv: .* can't decode"),
        ("data.csv", b"observation_0,action_0,action_0\n1,2,3\n", "columns with different names"),
        ("data.csv", b"observation_0,action_0\n1," + b"1" * 200_000, "field larger than field limit"),
        ("data.csv", b"0" * 5_000_000, "lines of at most 4,194,304 bytes, got more in line 1"),
        ("data.npz", b"", NO_NPZ),
        ("data.npz", b"PK\x03\x04 torn", NO_NPZ),
        ("data.npz", b"observation_0,action_0", NO_NPZ),
        ("data.txt", b"", r"expected a name that ends in .npz, .csv, .hdf5 or .h5, or minari:NAME, got '.txt'"),
        (
            "data.npz",
            {"observations": np.array([object()]), "actions": np.zeros(1)},
            "observations has object of shape",
        ),
        ("data.npz", {"observations": np.zeros(1, complex), "actions": np.zeros(1)}, "real numbers .* got complex128"),
        ("data.npz", {"observations": np.array(["1"]), "actions": np.zeros(1)}, "data.npz: observations: .* got <U1"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_the_line(tmp_path, name, content, says):
    if isinstance(content, dict):
        np.savez(tmp_path / name, **content)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says):
        data.read_dataset(tmp_path / name)


@pytest.mark.parametrize("name", ["data.npz", "data.h5"])
def test_written_arrays_of_any_kind_are_read(tmp_path, name):
    seen = np.arange(6.0).reshape(3, 2)
    for kind in (np.ndarray.tolist, lambda rows: jax.numpy.asarray(rows, "bfloat16")):
        data.write(tmp_path / name, data.Episodes(kind(seen), seen[:, 0]))
        np.testing.assert_array_equal(data.read_dataset(tmp_path / name).observations, seen)
    with pytest.raises(TypeError, match=r"episodes: expected Episodes, got list\. Give the result of read_dataset"):
        data.write(tmp_path / name, EPISODES)
