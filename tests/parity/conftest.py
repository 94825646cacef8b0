"""What pytest leaves alone here: skrl_reference.py is run by the Python of skrl."""

collect_ignore = ["skrl_reference.py"]
