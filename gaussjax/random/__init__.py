"""Random numbers with the bits of `jax.random`, from JAX, NumPy and torch."""
