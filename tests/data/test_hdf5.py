"""HDF5 files in the published layouts of D4RL, robomimic and Minari and in our own, and hostile ones."""

import io

import h5py
import numpy as np
import pytest

from gaussjax import data
from gaussjax.data import episodes as records
from tests.data.test_recorded import BOX, EPISODES, FLAT, LENGTHS, NESTED, assert_equal


def write(group, tree, **options):
    for name, leaf in tree.items():
        if isinstance(leaf, dict):
            write(group.create_group(name), leaf, **options)
        else:
            group.create_dataset(name, data=leaf, **options)


def own(file, **options):
    write(file, FLAT, **options)
    file["infos/goal"] = np.zeros(3)


def d4rl(file):
    flat = dict(FLAT)
    flat["terminals"], flat["timeouts"] = flat.pop("terminations"), flat.pop("truncations")
    write(file, flat)
    file["metadata/algorithm"] = "SAC"
    file["infos/qpos"] = np.zeros((sum(LENGTHS), 2))


def robomimic(file):
    """Demonstrations 2, 10 and 11, which are written in another order; other names hold no episode."""
    group = file.create_group("data")
    group.attrs["env_args"] = "{}"
    for number, each in sorted(zip((2, 10, 11), EPISODES, strict=True), key=lambda pair: str(pair[0])):
        demonstration = group.create_group(f"demo_{number}")
        demonstration.attrs["num_samples"] = len(each["actions"])
        write(demonstration, {
            "obs": {name: leaf[:-1] for name, leaf in each["observations"].items()},
            "next_obs": {name: leaf[1:] for name, leaf in each["observations"].items()},
            "actions": each["actions"], "rewards": each["rewards"], "dones": each["terminations"].astype(np.int64),
            "states": np.zeros((len(each["actions"]), 7)),
        })  # fmt: skip
    file["mask/train"] = np.array([b"demo_2", b"demo_10"])


def minari(file):
    for number, each in enumerate(EPISODES):
        group = file.create_group(f"episode_{number}")
        write(group, {**each, "infos": {"distance": np.zeros(len(each["actions"]))}}, chunks=True)


LAYOUTS = {
    "own": own,
    "own, compressed": lambda file: own(file, compression="gzip", shuffle=True, fletcher32=True),
    "own, lzf": lambda file: own(file, compression="lzf"),
    "D4RL": d4rl,
    "robomimic": robomimic,
    "Minari": minari,
}


def content(make):
    """Bytes of a file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        make(file)
    return buffer.getvalue()


def made(folder, make):
    (folder / "data.hdf5").write_bytes(content(make))
    return folder / "data.hdf5"


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_published_layouts_are_read(tmp_path, monkeypatch, name, large):
    if large:
        monkeypatch.setattr(data.recorded, "IN_MEMORY", 0)
    found = data.read_dataset(made(tmp_path, LAYOUTS[name]), NESTED, BOX)
    assert isinstance(found.actions, records.Rows) == large
    found = data.rows(found, slice(None))
    if name == "robomimic":
        assert found.truncated is None
        found = found._replace(truncated=np.zeros(sum(LENGTHS), bool))
    assert_equal(found)


def broken(group, **changes):
    """A file of FLAT with other datasets or links by name; None removes one."""

    def make(file):
        write(file, FLAT)
        for name, change in changes.items():
            place = "observations/speed" if name == "speed" else name
            del file[place]
            if callable(change):
                change(file, place)
            elif change is not None:
                file[place] = change

    return make


def dataset(**options):
    return lambda file, name: file.create_dataset(name, **{"shape": (sum(LENGTHS), 2), "dtype": "f4"} | options)


def virtual(file, name):
    layout = h5py.VirtualLayout((sum(LENGTHS), 2), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "actions", (sum(LENGTHS), 2))
    file.create_virtual_dataset(name, layout)


def plugin(file, name):
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((1, 2))
    settings.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((sum(LENGTHS), 2))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space, settings)


def circle(file, name):
    file[name] = h5py.SoftLink("/")
    del file[name]
    file["observations/again"] = file["observations"]
    file[name] = np.zeros((sum(LENGTHS), 2))


def episodes_as_array(file, name):
    file.clear()
    file["data"] = np.zeros(3)


HUGE = {"shape": (2**40, 2), "chunks": (2**16, 2)}
HOSTILE = {
    "external link": (dict(actions=h5py.ExternalLink("/etc/passwd", "/")), "in the file itself, got a ExternalLink"),
    "soft link": (dict(actions=h5py.SoftLink("/rewards")), "in the file itself, got a SoftLink"),
    "external storage": (dict(actions=dataset(external=[("/etc/passwd", 0, 80)])), "lies in other files"),
    "virtual": (dict(actions=virtual), "lies in other files"),
    "texts": (dict(actions=np.array([b"a"] * 3, object)), "actions as an array of real numbers, got object"),
    "ragged": (dict(actions=dataset(dtype=h5py.vlen_dtype("f4"))), "Read compressed pictures of Minari as minari:"),
    "records": (dict(actions=dataset(dtype=[("a", "f4")])), "actions as an array of real numbers, got"),
    "a number": (dict(actions=np.float32(1.0)), r"got float32 of shape \(\)"),
    "a plugin": (dict(actions=plugin), "filters among gzip, shuffle, fletcher32, lzf, got number 32015"),
    "unwritten": (dict(actions=dataset(**HUGE)), "Save them uncompressed"),
    "huge chunks": (dict(speed=dataset(shape=(10, 2), maxshape=(None, 2), chunks=(2**27, 2))), "Save them uncom"),
    "compressed zeros": (dict(actions=dataset(**HUGE, compression="gzip")), "Save them uncompressed"),
    "a circle of groups": (dict(speed=circle), "at most .* groups"),
    "missing": (dict(actions=None), "expected observations and actions, got"),
    "a type": (dict(actions=np.dtype("f4")), "expected actions as an array or a group, got a Datatype"),
    "an array of episodes": (dict(actions=episodes_as_array), "expected 'data' as a group, got a Dataset"),
    "a group": (dict(actions=lambda file, name: file.create_group(name)), "expected observations and actions, got"),
}  # fmt: skip


def hostile():
    """Bytes of the hostile files, by name."""
    return {name: content(broken(None, **changes)) for name, (changes, _) in HOSTILE.items()}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path, name):
    changes, says = HOSTILE[name]
    with pytest.raises(ValueError, match=f"data.hdf5: .*{says}") as caught:
        data.read_dataset(made(tmp_path, broken(None, **changes)), NESTED, BOX)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "name", "change", "says"),
    [
        (robomimic, "data/demo_10/actions", None, "data.hdf5: data/demo_10: expected observations and actions, got"),
        (
            robomimic,
            "data/demo_10/obs/speed",
            np.zeros((3, 2)),
            r"data/demo_10: .* got 3 observations\['speed'\] and 5",
        ),
        (robomimic, "data/demo_10/actions", np.zeros((0, 2)), "data/demo_10: expected at least one step"),
        (robomimic, "data/demo_10/actions", np.full((5, 2), 3.0), "data.hdf5: actions: .* in episode 1, step 0"),
        (minari, "episode_1/rewards", np.full(5, np.nan), "data.hdf5: rewards: .* got nan in episode 1, step 0"),
        (minari, "episode_1/actions", np.zeros((5, 3)), r"episode_1: actions: .* \(2,\) as in episode_0, got \(3,\)"),
        (d4rl, "terminals", np.zeros(3, bool), r"data.hdf5: .* got 3 terminated and 10 actions"),
    ],
)
def test_bad_data_is_named_by_its_group(tmp_path, layout, name, change, says):
    path = made(tmp_path, layout)
    with h5py.File(path, "a") as file:
        del file[name]
        if change is not None:
            file[name] = change
    with pytest.raises(ValueError, match=f"^dataset: .*{says}"):
        data.read_dataset(path, NESTED, BOX)


@pytest.mark.parametrize("wrong", [b"", b"\x89HDF\r\n\x1a\n" + bytes(1000), content(own)[:-100]])
def test_another_file_is_refused(tmp_path, wrong):
    (tmp_path / "data.h5").write_bytes(wrong)
    with pytest.raises(ValueError, match=r"data.h5: expected an HDF5 file of arrays, got another: "):
        data.read_dataset(tmp_path / "data.h5")
