# These programs need the libraries whose files they make.
collect_ignore_glob = ["files/*"]
