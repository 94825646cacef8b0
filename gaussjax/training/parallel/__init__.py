"""Training over several devices and several processes."""
