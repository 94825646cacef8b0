"""The command `gaussjax`: one file for each group of commands."""
