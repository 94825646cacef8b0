"""Tests of `gaussjax.networks`."""
