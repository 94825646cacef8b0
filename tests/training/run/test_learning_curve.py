import csv
import math
import struct

import pytest
from matplotlib.axes import Axes

from gaussjax.training.run import learning_curve, output_files


def test_metrics_are_on_disk_after_each_row(tmp_path):
    path = tmp_path / "metrics.csv"
    with output_files.MetricsFile(path) as metrics:
        for step in (1, 2):
            metrics.write({"step": step, "episode_return": -1.5})
            with path.open() as file:
                assert len(list(csv.DictReader(file))) == step


def test_learning_curve_is_a_picture_even_without_a_finished_episode(tmp_path):
    path = tmp_path / "curve.png"
    for returns in ([float("nan")], [-3.0, float("nan"), -1.0]):
        rows = [{"step": i, "episode_return": value} for i, value in enumerate(returns)]
        learning_curve.draw(rows, path, "title")
        header = path.read_bytes()[:24]
        assert header[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", header[16:]) == (1050, 600)


def test_a_learning_curve_has_points_where_episodes_ended_or_were_evaluated(tmp_path, monkeypatch):
    """In the other rows the mean of earlier episodes stays, which would draw stairs."""
    drawn, original = {}, Axes.plot

    def plot(self, steps, values, label, **style):
        drawn[label] = dict(zip(steps, values, strict=True))
        return original(self, steps, values, label=label, **style)

    monkeypatch.setattr(Axes, "plot", plot)
    rows = [
        {"step": i, "episodes": i % 2, "episode_return": 10 * (i // 2), "recent_return": 9 * (i // 2)} for i in range(4)
    ]
    learning_curve.draw(rows, tmp_path / "curve.png", "title")
    assert drawn == {"episodes of the update": {1: 0, 3: 10}, "latest 100 episodes": {1: 0, 3: 9}}
    drawn.clear()
    rows[2]["evaluation_return"] = 7
    learning_curve.draw(rows, tmp_path / "curve.png", "title", score="evaluation_return")
    assert drawn == {"evaluation, deterministic actions": {2: 7}, "episodes of the update": {1: 0, 3: 10}}


@pytest.mark.parametrize("torn", ["6", "64", "64,1", "640,1.0,2"])
def test_a_row_of_metrics_that_was_broken_off_is_passed_over_and_dropped(tmp_path, torn):
    path, whole = tmp_path / "metrics.csv", "step,entropy,kl\n64,1.5,0.5\n"
    path.write_text(whole + "128\n192,1.0,0.5\n" + torn)
    assert [row["step"] for row in output_files.read_metrics(path)] == [64.0, 192.0]
    path.write_text(whole + torn)
    assert output_files.drop_later_rows(path, 640) == ""
    assert path.read_text().split() == whole.split()


WHOLE = "step,entropy,kl\n64,1.5,nan\n128,1.0,0.5\n192,0.5,0.25\n"
DAMAGE = {
    "later rows": (WHOLE + "256,1.0,1.0\n", ""),
    "row of another length": (WHOLE + "192\n", "in order (1): it is kept as metrics.csv.damaged"),
    "doubled rows": (WHOLE + "128,1.0,0.5\n192,0.5,0.25\n", "in order (2)"),
    "text": (WHOLE + "200,much,0.5\n", "in order (1)"),
    "step of many digits": (WHOLE + "9" * 5000 + ",1.0,0.5\n", "in order (1)"),
    "step that is no whole number": (WHOLE + "200.5,1.0,0.5\n", "in order (1)"),
    "NUL bytes": (WHOLE + "\0\0\0\n", "in order (1)"),
    "field of a megabyte": (WHOLE + "1" * 10**6 + "\n", "in order (1)"),
    "open quote": (WHOLE + '200,"1.0,0.5\n', "in order (1)"),
    "other end of lines": (WHOLE.replace("\n", "\r\n"), ""),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_rows_that_can_be_read_stay_and_a_damaged_file_is_kept_under_another_name(name, tmp_path):
    path, (text, says) = tmp_path / "metrics.csv", DAMAGE[name]
    for number in ("", "2"):
        path.write_text(text, newline="")
        assert says in output_files.drop_later_rows(path, 192)
        assert path.read_text() == WHOLE
        other = tmp_path / f"metrics.csv.damaged{number}"
        assert not says or other.read_text() == text.replace("\r", "")
    assert len(list(tmp_path.iterdir())) == (3 if says else 1)


def test_a_file_behind_a_link_is_not_changed(tmp_path):
    outside, path = tmp_path / "outside.csv", tmp_path / "metrics.csv"
    outside.write_text(WHOLE)
    path.symlink_to(outside)
    with output_files.MetricsFile(path) as metrics, pytest.raises(OSError, match=r"metrics\.csv"):
        metrics.write({"step": 256, "entropy": 0.0, "kl": 0.0})
    output_files.drop_later_rows(path, 64)
    with output_files.MetricsFile(path) as metrics:
        metrics.write({"step": 128, "entropy": 0.0, "kl": 0.0})
    assert outside.read_text() == WHOLE
    assert [row["step"] for row in output_files.read_metrics(path)] == [64, 128]


def test_rows_of_other_metrics_share_a_file_by_the_names_of_both(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(WHOLE)
    with output_files.MetricsFile(path) as metrics:
        metrics.write({"step": 256, "kl": 0.125, "std": 1.0})
    rows = output_files.read_metrics(path)
    assert list(rows[0]) == ["step", "kl", "std", "entropy"]
    assert [row["kl"] for row in rows[1:]] == [0.5, 0.25, 0.125]
    assert (rows[0]["entropy"], rows[3]["std"]) == (1.5, 1.0)
    assert all(math.isnan(value) for value in (rows[0]["std"], rows[3]["entropy"]))
