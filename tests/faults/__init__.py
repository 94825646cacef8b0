"""What machines, other programs and malice do to files."""
