"""Tests of `gaussjax.distributions`."""
