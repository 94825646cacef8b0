"""Malicious files: no code runs, and each file gets one clear error."""

import ast
import contextlib
import json
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import gaussjax
import gaussjax.torch
from gaussjax import files
from gaussjax.cli import main as cli
from gaussjax.export import numpy_act
from gaussjax.training.run import checkpoint, learning_curve
from tests.core import test_text
from tests.data import test_hdf5
from tests.faults import bombs, malice
from tests.interop import malicious
from tests.interop.skrl import test_checkpoints


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("malice")
    marker = folder / "executed"
    return folder, marker, malice.files(marker, folder / "draft.safetensors")


def test_malicious_files_run_nothing_and_get_one_clear_error(made, record_bar):
    folder, marker, payloads = made
    assert len(payloads) >= 30
    path = folder / "policy.safetensors"
    wrong = []
    for name, payload in payloads.items():
        path.write_bytes(payload)
        try:
            gaussjax.load(path)
            wrong.append(f"{name}: loaded")
        except gaussjax.PolicyFileError as error:
            if path.name not in str(error) or "expected" not in str(error) or len(str(error)) > 2000:
                wrong.append(f"{name}: {str(error)[:200]}")
        except BaseException as error:
            wrong.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
        if marker.exists():
            wrong.append(f"{name}: executed")
            marker.unlink()
    record_bar("malice", "malicious files, executed or without one clear error", len(payloads), len(wrong), 0)
    assert wrong == []


def test_other_readers_run_nothing_either(made):
    folder, marker, payloads = made
    path, like = folder / checkpoint.LATEST, {"params": malice.filled(0.0)}
    # A whole file has a summary; what counts is that none of them runs anything or exhausts the machine.
    harmless = contextlib.suppress(ValueError, KeyError, OSError, TypeError, AttributeError, zipfile.BadZipFile)
    for name, payload in payloads.items():
        path.write_bytes(payload)
        for read in (files.summary, lambda path: checkpoint.load(folder, like), numpy_act.load):
            with harmless:
                read(path)
            assert not marker.exists(), name


# The first variant of each kind by two readers, or all files by all readers.
@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_reader_takes_more_than_it_promises(made, full, tmp_path, repository, record_bar):
    _, marker, payloads = made
    kinds = bombs.files(20 if full else 1)
    bombs_of = {kind: rows.items() if full else [*rows.items()][:1] for kind, rows in kinds.items()}
    rows = {f"{kind}: {name}": bomb for kind, variants in bombs_of.items() for name, bomb in variants}
    if full:
        rows |= {f"policy: {name}": (".safetensors", payload) for name, payload in payloads.items()}
        rows |= {f"skrl: {i}": bomb for i, bomb in enumerate(test_checkpoints.malicious(marker))}
        rows |= {f"HDF5: {name}": (".hdf5", content) for name, content in test_hdf5.hostile().items()}
        rows |= {f"interop: {name}": bomb for name, (_, *bomb) in malicious.files(marker).items()}
    names = {f"file_{i:03}{suffix}": name for i, (name, (suffix, _)) in enumerate(rows.items())}
    for name, (_, content) in zip(names, rows.values(), strict=True):
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults.readers", str(tmp_path)]
    command += [] if full else ["load", "skrl", "dataset", "network"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{names.get(lines[-1].get('begin'))} ended the process: {done.stderr[-2000:]}"
    found = [line for line in lines if "file" in line]
    wrong = [(names[line["file"]], line) for line in found if fault(line, names[line["file"]])]
    assert len(kinds) >= 25
    assert {line["file"] for line in found} == set(names)
    if full:
        what = (
            f"malicious files ({len(kinds) + 3} kinds) × readers, executed, over the limits or without one clear error"
        )
        record_bar("malice", what, len(found), len(wrong) + marker.exists(), 0)
        for part, unit in (("memory", "memory"), ("seconds", "time")):
            most = max(line[part] / line[f"allowed_{part}"] for line in found)
            record_bar("malice", f"largest share of the promised {unit}", len(found), round(100 * most, 1), 100, " %")
    assert wrong == []
    assert not marker.exists()


def fault(line, name):
    """Whether a reading broke the promise: its limits, or one line that names the file."""
    if line["seconds"] > line["allowed_seconds"] or line["memory"] > line["allowed_memory"]:
        return True
    if line["error"] is None:
        # A summary describes a policy without building it. The reader of skrl returns arrays of any structure, so that
        # files with a wrong structure for another library are whole to it.
        return line["reader"] != "summary" and not (line["reader"] == "skrl" and name.startswith("interop"))
    names_file = line["file"] in line["error"] or line["reader"] in ("network", "checkpoint")
    allowed = {"PolicyFileError", "CheckpointError", "FileError", "ValueError"}
    one_line = "\n" not in line["error"] and len(line["error"]) <= 6000
    return not (names_file and one_line and line["causes"][0] in allowed and "MemoryError" not in line["causes"])


def test_a_short_file_of_a_huge_network_is_refused_in_torch_before_it_is_built(tmp_path):
    described = malice.description({"network": malice.network(sizes=[10**6, 10**6])})
    (tmp_path / "policy").write_bytes(malice.whole(tmp_path / "draft", described))
    # Built, the second layer alone would have four terabytes.
    says = "expected arrays of at least 2000002 parameters, got 4,548"
    with pytest.raises(gaussjax.PolicyFileError, match=says):
        gaussjax.torch.load(tmp_path / "policy")


def test_environment_named_by_a_file_is_not_imported(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "policy.safetensors"
    gaussjax.save(path, malice.POLICY, malice.filled(0.0), metadata={"environment": "evil:Pendulum-v1"})
    with pytest.raises(SystemExit):
        cli.main(["evaluate", str(path)])
    assert "names 'evil:Pendulum-v1', which would import a module" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()


def test_text_of_a_file_reaches_no_terminal_and_no_title(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    hostile = "".join(test_text.HOSTILE.values())
    path = tmp_path / "policy.safetensors"
    described = malice.description({"kind": f"k{hostile}", "options": {f"o{hostile}": hostile}})
    described |= {"metadata": {f"m{hostile}": [hostile], "environment": f"e{hostile}"}, "versions": {"x": hostile}}
    tensors, data = malice.table(malice.named_arrays() | {f"params/t{hostile}": np.zeros(1, np.float32)})
    path.write_bytes(malice.header(tensors, data, described))
    gaussjax.save(tmp_path / "whole.safetensors", malice.POLICY, malice.filled(0.0), metadata=described["metadata"])
    (tmp_path / "n\x1b[31m.safetensors").write_bytes(b"")
    said = ""
    for command in (
        ["info", str(path)],
        ["evaluate", str(path)],
        ["export", str(path)],
        ["evaluate", str(tmp_path / "whole.safetensors")],
        ["info", str(tmp_path / "n\x1b[31m.safetensors")],
        ["info", str(tmp_path / "missing.safetensors")],
    ):
        with contextlib.suppress(SystemExit):
            cli.main(command)
        captured = capsys.readouterr()
        said += captured.out + captured.err
    assert "Traceback" not in said
    assert r"\x1b]52;c;AAAA\x07" in said
    assert [character for character in said.replace("\n", "") if not character.isprintable()] == []
    learning_curve.draw([{"step": 1, "episode_return": 1.0}], tmp_path / "a.png", f"${hostile}$ \\frac{{")


# The source itself

BARRED = re.compile(
    r"""^\s*from\ (?:pickle|cPickle|_pickle|dill|cloudpickle|joblib|shelve|marshal|code|codeop)\b
    | ^\s*import\ .*\b(?:pickle\ as|cPickle|_pickle|dill|cloudpickle|joblib|shelve|marshal|code|codeop)\b
    | \bpickle\.(?!UnpicklingError)\w+
    | (?<![.\w])(?:eval|exec|compile|__import__|execfile)\( | \bbuiltins\.(?:eval|exec|compile|__import__)
    | \byaml\.(?:full_|unsafe_)?load\b | \byaml\.(?:full_|unsafe_)?load_all\b | \bos\.(?:system|popen)\b
    | \b(?:weights_only=(?!True)|allow_pickle=(?!False)|shell=(?!False))
    | \btorch\.load\((?!.*\bweights_only=)""",
    re.MULTILINE | re.VERBOSE,
)


class _Code(ast.NodeTransformer):
    """Code without texts, and without the one allowed use: an Unpickler whose find_class does nothing but raise."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant("") if isinstance(node.value, str | bytes) else node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        if any(map(_only_raises, node.body)):
            node.bases = [base for base in node.bases if ast.unparse(base) != "pickle.Unpickler"]
        return self.generic_visit(node)


def _only_raises(method: ast.stmt) -> bool:
    if not isinstance(method, ast.FunctionDef) or method.name != "find_class":
        return False
    returns = any(isinstance(node, ast.Return | ast.Yield) for node in ast.walk(method))
    return isinstance(method.body[-1], ast.Raise) and not returns


def barred(source: str) -> list[str]:
    """Parts of a source file that could execute data."""
    return [found.group().strip() for found in BARRED.finditer(ast.unparse(_Code().visit(ast.parse(source))))]


def test_no_source_file_executes_data(repository):
    sources = [*repository.glob("gaussjax/**/*.py"), *repository.glob("benchmarks/**/*.py")]
    assert len(sources) > 50
    found = {str(path.relative_to(repository)): barred(path.read_text(encoding="utf-8")) for path in sources}
    assert {name: lines for name, lines in found.items() if lines} == {}


UNPICKLER = "import pickle\nclass A(pickle.Unpickler):\n  def find_class(self, m, n):\n    "
UNSAFE = (
    "import pickle; pickle.loads(b'')",
    "import pickle as p; p.load",
    "from pickle import loads",
    "import pickle\nclass A(pickle.Unpickler): pass",
    UNPICKLER + "return getattr(m, n)",
    "eval('1')",
    "exec('1')",
    "compile('1', '', 'eval')",
    "__import__('os')",
    "import builtins; builtins.eval('1')",
    "import yaml; yaml.load(text)",
    "import yaml; yaml.unsafe_load(text)",
    "import torch; torch.load(path)",
    "import torch; torch.load(path, weights_only=False)",
    "np.load(path, allow_pickle=True)",
    "import dill",
    "import joblib",
    "from marshal import loads",
    "os.system('true')",
    "subprocess.run('true', shell=True)",
)
SAFE = (
    UNPICKLER + "raise pickle.UnpicklingError(m)",
    "import yaml; yaml.safe_load(text)",
    "torch.load(path, weights_only=True)",
    "policy.eval()",
    "re.compile('x')",
    "np.load(path, allow_pickle=False)",
)


def test_the_search_finds_what_is_barred_and_lets_safe_code_be():
    assert [source for source in UNSAFE if not barred(source)] == []
    assert [source for source in SAFE if barred(source)] == []
