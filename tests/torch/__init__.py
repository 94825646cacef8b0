"""Tests of the twin in PyTorch."""
