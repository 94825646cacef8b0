"""The policies that are measured, each as a user of that library writes it.

A module has a function for each command it takes part in, `COMMAND(device, **case) -> Built`, and
`hardware(device)`, the name of what it runs on. Only `benchmarks.worker` imports them, each in an
environment that has its library.
"""
