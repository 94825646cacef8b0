"""Private foundations of the other packages: arrays, compiled functions, named choices, pytrees and files."""
