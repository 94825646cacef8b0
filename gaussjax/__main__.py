"""`python -m gaussjax` is the command `gaussjax`."""

import gaussjax_command

if __name__ == "__main__":
    gaussjax_command.loaded()
    gaussjax_command.main()
