"""One policy, one file: parameters, description and observation statistics."""

from gaussjax.artifact.reading import Loaded as Loaded
from gaussjax.artifact.reading import assemble as assemble
from gaussjax.artifact.reading import load as load
from gaussjax.artifact.reading import summary as summary
from gaussjax.artifact.writing import save as save
from gaussjax.safefile import PolicyFileError as PolicyFileError
