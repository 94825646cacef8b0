import csv
import struct

import pytest

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


@pytest.mark.parametrize("torn", ["6", "64", "64,1", "640,1.0,2"])
def test_a_row_of_metrics_that_was_broken_off_is_passed_over_and_dropped(tmp_path, torn):
    path, whole = tmp_path / "metrics.csv", "step,entropy,kl\n64,1.5,0.5\n"
    path.write_text(whole + "128\n192,1.0,0.5\n" + torn)
    assert [row["step"] for row in output_files.read_metrics(path)] == [64.0, 192.0]
    path.write_text(whole + torn)
    output_files.drop_later_rows(path, 640)
    assert path.read_text().split() == whole.split()
