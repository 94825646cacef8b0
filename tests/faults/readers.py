"""A process that reads files within their promise: `python -m tests.faults.readers FOLDER [READER …]`.

The promise of every reader is 10 times the file's size and 256 MB of memory, and 10 s for each begun MB. Seconds of the
processor count, because other work on the machine is no part of the promise. The limit on the address space is set for
each file. A line of JSON goes to stdout before and after each reading.
"""

import functools
import json
import resource
import sys
import time
from pathlib import Path

import gaussjax
from gaussjax import data, files, networks
from gaussjax.interop import brax, cleanrl, rsl_rl, sb3, skrl
from gaussjax.interop.sb3 import statistics
from gaussjax.training.run import checkpoint
from tests.faults import malice

SLACK, TIMES, SECONDS = 256 * 2**20, 10, 10.0


def load_in_torch(path: Path) -> object:
    import gaussjax.torch

    return gaussjax.torch.load(path)


def read_checkpoint(path: Path) -> object:
    latest = path.parent / checkpoint.LATEST
    latest.unlink(missing_ok=True)
    latest.hardlink_to(path)
    return checkpoint.load(path.parent, {"params": malice.filled(0.0)})


READERS = {
    ".safetensors": {
        "load": gaussjax.load,
        "summary": files.summary,
        "torch": load_in_torch,
        "checkpoint": read_checkpoint,
    },
    ".flax": {"skrl": skrl.arrays},
    ".pt": {"skrl": skrl.arrays, "rsl_rl": rsl_rl.read, "cleanrl": cleanrl.read},
    ".pickle": {
        "skrl": skrl.arrays,
        "brax": functools.partial(brax.read, normalize_observations=True, activation="relu"),
    },
    ".zip": {"sb3": sb3.read},
    ".pkl": {"statistics": lambda path: statistics.read(path, gaussjax.spaces.Box(shape=(3,)))},
    **{suffix: {"dataset": data.read_dataset} for suffix in (".npz", ".csv", ".hdf5")},
    ".yaml": {"network": lambda path: networks.from_spec(path.read_text(encoding="utf-8"))},
}


def memory(name: str) -> int:
    """A line of /proc/self/status in bytes: VmSize is the address space, VmRSS what is resident, VmHWM its peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def causes(error: BaseException | None) -> list[str]:
    return [] if error is None else [type(error).__name__, *causes(error.__cause__ or error.__context__)]


def measured(path: Path, read) -> dict:
    """Seconds, peak of memory in bytes, and the error of one reading under the limit of memory."""
    size = path.stat().st_size
    Path("/proc/self/clear_refs").write_text("5")
    before, found, start = memory("VmRSS"), None, time.process_time()
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + TIMES * size + SLACK, resource.RLIM_INFINITY))
    try:
        read(path)
    except Exception as error:
        found = error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    seconds, peak = time.process_time() - start, memory("VmHWM") - before
    return {
        "seconds": seconds,
        "allowed_seconds": SECONDS * max(1.0, size / 2**20),
        "memory": peak,
        "allowed_memory": TIMES * size + SLACK,
        "causes": causes(found),
        "error": None if found is None else str(found),
    }


def main() -> None:
    folder, chosen = Path(sys.argv[1]), sys.argv[2:]
    # Libraries that a reader imports at its first use are no part of the promise.
    warm = folder / "warm.safetensors"
    gaussjax.save(warm, malice.POLICY, malice.filled(0.0))
    for name, read in READERS[".safetensors"].items():
        if name != "checkpoint" and (not chosen or name in chosen):
            read(warm)
    networks.from_spec("type: MLP")
    for path in sorted(folder.glob("file_*")):
        for name, read in READERS[path.suffix].items():
            if chosen and name not in chosen:
                continue
            print(json.dumps({"begin": path.name, "reader": name}), flush=True)
            print(json.dumps({"file": path.name, "reader": name, **measured(path, read)}), flush=True)


if __name__ == "__main__":
    main()
