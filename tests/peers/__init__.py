"""Tests of distrax, TensorFlow Probability and torch.distributions, run with our distributions in their place."""
