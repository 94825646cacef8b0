"""Policy files: the parameters, description and observation statistics of one policy."""

from gaussjax.files.container import PolicyFileError as PolicyFileError
from gaussjax.files.policy_file import Loaded as Loaded
from gaussjax.files.policy_file import assemble as assemble
from gaussjax.files.policy_file import load as load
from gaussjax.files.policy_file import save as save
from gaussjax.files.policy_file import summary as summary
