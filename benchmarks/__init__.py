"""Speed of gaussjax and its peers, measured by one runner on the same inputs."""
