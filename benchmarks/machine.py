"""Description of the machine, and the load that other processes put on it."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import time
from pathlib import Path
from typing import Any

from benchmarks import history

_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}


def describe() -> dict[str, Any]:
    """Machine, cores, memory, Python version, date and revision of the code."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "revision": history.present(),
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(pages / 2**30),
            "system": f"{platform.system()} {platform.release().split('-')[0]}",
            "python": platform.python_version(),
        },
    }


class Watch:
    """Share of the cores that other processes used between construction and `stop`.

    Times that were measured beside other work are unreliable, and only this share reveals it.
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._busy, self._ours = busy_seconds(), _our_seconds()

    def stop(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._start
        others = busy_seconds() - self._busy - (_our_seconds() - self._ours)
        return {"seconds": round(seconds), "share_of_cpu_used_by_others": share(others, seconds)}


def peak_bytes() -> int:
    """Largest resident memory of this process so far; `ru_maxrss` would count that of its parent too."""
    status = Path("/proc/self/status").read_text()
    return 2**10 * int(status.partition("VmHWM:")[2].split()[0])


def share(others: float, seconds: float) -> float:
    """CPU seconds of other processes as a share of all cores."""
    return round(max(others, 0.0) / (seconds * (os.cpu_count() or 1)), 3) if seconds else 0.0


def busy_seconds() -> float:
    """CPU seconds of all processes on all cores since the start of the system."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _our_seconds() -> float:
    """CPU seconds of this process and of its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _processor() -> str:
    first = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    name = fields.get("model name") or platform.processor() or platform.machine()
    # A virtual machine may shorten the name so that two generations share it.
    if "cpu family" in fields and "model" in fields:
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    # The width of the vectors matters more than the name.
    flags = fields.get("flags", "").split()
    vectors = next((shown for flag, shown in _VECTORS.items() if flag in flags), None)
    return f"{name} with {vectors}" if vectors else name
