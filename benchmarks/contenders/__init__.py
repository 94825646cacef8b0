"""The measured policies, each written as a user of its library would write it.

A module has one function per command, `COMMAND(device, **case) -> Built`, and `hardware(device)`, the name
of the device. Only `benchmarks.worker` imports these modules, each in an environment that has its library.
"""
