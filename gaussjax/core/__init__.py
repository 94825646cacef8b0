"""Private foundations that every room above uses."""
