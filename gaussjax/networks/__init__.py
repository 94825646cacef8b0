"""Policy networks: Flax modules that map observations to (mean, log_std, outputs).

For a population of policies, give the parameters a leading axis. Here 256 policies act in one call:

    >>> import jax, gaussjax
    >>> policy = gaussjax.gaussian(gaussjax.networks.LSTM(hidden_size=8), 3, gaussjax.spaces.Box(shape=(2,)))
    >>> keys = jax.random.split(jax.random.key(0), 256)
    >>> params = jax.vmap(policy.init)(keys)
    >>> observations, carry = jax.numpy.zeros((256, 5, 3)), policy.initial_carry((256, 5))
    >>> act = jax.vmap(lambda params, key, observations, carry: policy.act(params, key, observations, carry=carry))
    >>> act(params, keys, observations, carry).actions.shape
    (256, 5, 2)
"""

from gaussjax.networks.actor_critic import ActionValue as ActionValue
from gaussjax.networks.actor_critic import ActorCritic as ActorCritic
from gaussjax.networks.actor_critic import actor as actor
from gaussjax.networks.actor_critic import actor_observations as actor_observations
from gaussjax.networks.cnn import CNN as CNN
from gaussjax.networks.description import from_spec as from_spec
from gaussjax.networks.from_nnx import from_nnx as from_nnx
from gaussjax.networks.graph import Graph as Graph
from gaussjax.networks.heads import GaussianHead as GaussianHead
from gaussjax.networks.heads import gsde as gsde
from gaussjax.networks.layers import ACTIVATIONS as ACTIVATIONS
from gaussjax.networks.mlp import MLP as MLP
from gaussjax.networks.recurrent.cells import LSTMState as LSTMState
from gaussjax.networks.recurrent.networks import GRU as GRU
from gaussjax.networks.recurrent.networks import LSTM as LSTM
from gaussjax.networks.recurrent.networks import RNN as RNN
from gaussjax.networks.recurrent.networks import MinGRU as MinGRU
from gaussjax.networks.recurrent.sequences import episode_ends as episode_ends
from gaussjax.networks.recurrent.sequences import episode_starts as episode_starts
from gaussjax.networks.recurrent.sequences import to_sequences as to_sequences
