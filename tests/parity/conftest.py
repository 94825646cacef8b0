"""What pytest leaves alone here: these are run by the Python of skrl."""

collect_ignore = ["skrl_reference.py", "skrl_recurrent.py"]
