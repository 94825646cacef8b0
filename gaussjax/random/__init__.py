"""Random numbers in JAX, NumPy and torch, drawn with the same random bits as in `jax.random`."""
