"""The same policy in JAX and in torch: the same numbers."""
