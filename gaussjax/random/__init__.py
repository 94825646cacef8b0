"""Random numbers: JAX's bits from JAX, NumPy and torch, in programs that compile fast."""
