"""A process that saves a policy again and again: `python -m tests.faults.writer FILE SEED`.

The metadata of each file holds the value of its parameters, so that a reader detects a torn file.
"""

import itertools
import resource
import signal
import sys

import jax

import gaussjax

POLICY = gaussjax.gaussian(gaussjax.networks.MLP((64, 64)), 3, gaussjax.spaces.Box(-1.0, 1.0, (2,)))


def filled(value: float) -> object:
    """Parameters that are all equal to a value."""
    shapes = jax.eval_shape(POLICY.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jax.numpy.full(leaf.shape, value, leaf.dtype), shapes)


def main() -> None:
    path, seed = sys.argv[1], int(sys.argv[2])
    prepared = [(value, filled(float(value))) for value in range(seed, seed + 5)]
    print("ready", flush=True)
    for value, params in itertools.cycle(prepared):
        gaussjax.save(path, POLICY, params, metadata={"value": value})


def limited(path: str, value: int, limit: int) -> bool:
    """Whether a save fails with files limited to `limit` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Without this the signal would end the process before the write could fail.
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        gaussjax.save(path, POLICY, filled(float(value)), metadata={"value": value})
    except OSError:
        return True
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    return False


if __name__ == "__main__":
    main()
