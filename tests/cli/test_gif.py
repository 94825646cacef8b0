import sys

import gymnasium
import numpy as np
import pytest
from PIL import Image

from gaussjax.cli import gif
from gaussjax.cli.errors import UsageError

pytest.importorskip("pygame")


def frames(path):
    """Pictures of a file as arrays, and milliseconds that each stays."""
    with Image.open(path) as image:
        for i in range(image.n_frames):
            image.seek(i)
            yield np.asarray(image.convert("RGB")), image.info["duration"]


def test_gif_shows_the_pendulum_where_it_hangs(tmp_path):
    environment = gymnasium.make("Pendulum-v1", render_mode="rgb_array")
    environment.reset(seed=0)
    recorder = gif.Recorder()
    angles = [0.0, np.pi / 2, np.pi]
    for angle in angles:
        environment.unwrapped.state = np.array([angle, 0.0])
        recorder.record(environment)
    environment.close()
    path = tmp_path / "episode.gif"
    recorder.save(path)
    shown = list(frames(path))
    # 30 pictures a second, in whole hundredths.
    assert [milliseconds for _, milliseconds in shown] == [30, 30, 30]
    for angle, (picture, _) in zip(angles, shown, strict=True):
        assert picture.shape == (320, 320, 3)
        # The rod is red on white; its middle is above, left of or below the middle of the picture.
        y, x = np.argwhere((picture[..., 0] > 150) & (picture[..., 1] < 120)).mean(axis=0) - 160.0
        reach = np.hypot(x, y)
        assert reach > 20.0
        np.testing.assert_allclose([-y / reach, -x / reach], [np.cos(angle), np.sin(angle)], atol=0.05)


def test_fast_environments_are_shown_at_their_speed_with_fewer_pictures():
    class Fast(gymnasium.Env):
        metadata = {"render_fps": 125}

        def render(self):
            return np.zeros((4, 4, 3), np.uint8)

    recorder = gif.Recorder()
    for _ in range(11):
        recorder.record(Fast())
    # Every fifth: 25 a second, 40 ms each.
    assert (len(recorder.pictures), recorder._milliseconds) == (3, 40)


def test_missing_package_for_drawing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    environment = gymnasium.make("Pendulum-v1", render_mode="rgb_array")
    environment.reset(seed=0)
    with pytest.raises(UsageError, match=r"Pendulum-v1 cannot be drawn .*gymnasium\[classic.control\]"):
        gif.Recorder().record(environment)
