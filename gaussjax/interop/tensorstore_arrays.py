"""A program that prints the arrays of a folder of Orbax as .npz: `python tensorstore_arrays.py FOLDER BYTES`.

It runs in a process of its own, whose memory is limited to BYTES beyond the start: a few compressed bytes may describe
gigabytes, and tensorstore has no limit for them.
"""

import io
import math
import re
import resource
import sys
from pathlib import Path

if __name__ == "__main__":
    # Without this, Python would look for modules in the folder of this file.
    sys.path.pop(0)

import numpy as np
import tensorstore


def limit(most: int) -> None:
    """Limits the memory of this process to its present size and `most` bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        data = int(re.search(r"VmData:\s+(\d+) kB", status.read_text())[1]) * 1024  # type: ignore[index]
        resource.setrlimit(resource.RLIMIT_DATA, (data + most, data + most))


def main(folder: str, most: int) -> None:
    """Prints all arrays of real numbers by name; exits with a text for other content."""
    # One thread at a time decompresses, so that few buffers are in memory together.
    context = tensorstore.Context({"data_copy_concurrency": {"limit": 1}, "file_io_concurrency": {"limit": 1}})
    limit(most)
    base = {"driver": "file", "path": f"{folder}/"}
    if (Path(folder) / "manifest.ocdbt").exists():
        base = {"driver": "ocdbt", "base": base}
    store = tensorstore.KvStore.open(base, context=context).result()
    keys = [key.decode() for key in store.list().result()]
    drivers = {"/.zarray": "zarr", "/zarr.json": "zarr3"}
    found = {key.removesuffix(end): driver for key in keys for end, driver in drivers.items() if key.endswith(end)}
    arrays, total = {}, 0
    for name, driver in found.items():
        spec = {"driver": driver, "kvstore": {**base, "path": f"{base.get('path', '')}{name}/"}}
        array = tensorstore.open(spec, context=context, open=True).result()
        dtype = array.dtype.numpy_dtype
        chunk = [size or 1 for size in array.chunk_layout.read_chunk.shape or ()]
        total += math.prod(array.shape) * dtype.itemsize
        if dtype.kind not in "fiub" or max(total, math.prod(chunk) * dtype.itemsize) > most:
            sys.exit(f"an array {name[:100]!r} of {dtype.name} that is too large or of no real numbers")
        arrays[name] = array.read().result()
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    sys.stdout.buffer.write(buffer.getvalue())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
