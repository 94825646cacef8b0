"""Files that only the environment of the peers' tests can import."""

collect_ignore = ["in_distrax.py", "in_tfp.py", "in_torch.py", "loops.py", "run.py"]
