"""Speed of gaussjax beside its peers, measured by one runner over the same inputs."""
