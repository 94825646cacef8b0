"""Policy networks as Flax modules: observations to (mean, log_std, outputs)."""

from gaussjax.networks.actor_critic import ActorCritic as ActorCritic
from gaussjax.networks.cells import LSTMState as LSTMState
from gaussjax.networks.cnn import CNN as CNN
from gaussjax.networks.critic import ActionValue as ActionValue
from gaussjax.networks.episodes import episode_ends as episode_ends
from gaussjax.networks.episodes import episode_starts as episode_starts
from gaussjax.networks.episodes import to_sequences as to_sequences
from gaussjax.networks.from_nnx import from_nnx as from_nnx
from gaussjax.networks.graph import Graph as Graph
from gaussjax.networks.heads import GaussianHead as GaussianHead
from gaussjax.networks.layers import ACTIVATIONS as ACTIVATIONS
from gaussjax.networks.mlp import MLP as MLP
from gaussjax.networks.recurrent import GRU as GRU
from gaussjax.networks.recurrent import LSTM as LSTM
from gaussjax.networks.recurrent import RNN as RNN
from gaussjax.networks.recurrent import MinGRU as MinGRU
from gaussjax.networks.spec import from_spec as from_spec
