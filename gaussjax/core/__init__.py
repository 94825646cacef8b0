"""Private functions that the other packages share: arrays, compiled functions, named choices, pytrees and files."""
