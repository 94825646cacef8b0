"""What pytest leaves alone here: these are run by the Python of skrl."""

collect_ignore_glob = ["skrl_*.py"]
