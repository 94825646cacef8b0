"""Samples of cloning: the validation split, weights, chunks, sequences and nested observations."""

import jax
import numpy as np
import pytest

from gaussjax import data, normalize
from gaussjax.data import Episodes
from gaussjax.spaces import Box, Dict, Discrete
from gaussjax.training import bc
from gaussjax.training.bc.samples import split
from tests.training.bc.small import SMALL, loop_of, recorded, same, trained


@pytest.mark.parametrize("network", ["mlp", pytest.param("lstm", marks=pytest.mark.slow)])
@pytest.mark.parametrize("which", ["validation", pytest.param("training", marks=pytest.mark.slow)])
def test_rows_of_validation_episodes_never_train(network, which):
    """Other numbers in the rows of one set change nothing of what the other set determines, to the last bit."""
    options = {"network": network, "sequence_length": 4, "burn_in": 2, "validation_share": 0.3}
    dataset = recorded(90, 9)
    training, validation = bc.loop.split(dataset, None, 0.3)[2:4]
    assert len(np.unique(np.flatnonzero(validation) // 10)) == 3
    assert (training ^ validation).all()
    changed = validation if which == "validation" else training
    other = dataset._replace(
        observations=np.where(changed[:, None], np.float32(3.0), dataset.observations),
        actions=np.where(changed[:, None], np.float32(0.7), dataset.actions),
    )
    (one, before), (two, after) = (trained(loop_of(episodes, **options)) for episodes in (dataset, other))
    if which == "validation":
        same((one.learner, one.observation_statistics), (two.learner, two.observation_statistics))
        assert before["log_prob"] == after["log_prob"]
        assert before["validation_log_prob"] != after["validation_log_prob"]
    else:
        assert before["log_prob"] != after["log_prob"]


def test_validation_metrics_are_means_over_the_validation_rows():
    dataset = recorded(90, 9, actions=2)._replace(weights=np.random.default_rng(1).uniform(0.0, 2.0, 90))
    loop = loop_of(dataset, validation_share=0.3)
    state, metrics = trained(loop, 1)
    chosen = bc.loop.split(dataset, None, 0.3).validation
    seen = normalize.apply(state.observation_statistics, dataset.observations[chosen])
    done, weights = dataset.actions[chosen], dataset.weights[chosen]
    log_prob = loop.policy.evaluate(state.learner.params, seen, raw_actions=done).log_prob / 2
    actions = loop.policy.act(state.learner.params, None, seen, deterministic=True).actions
    np.testing.assert_allclose(metrics["validation_log_prob"], np.mean(log_prob), rtol=1e-5)
    np.testing.assert_allclose(metrics["score"], np.average(log_prob, weights=weights), rtol=1e-5)
    np.testing.assert_allclose(metrics["validation_mean_error"], np.mean(np.abs(actions - done)), rtol=1e-5)


def test_a_row_of_weight_zero_is_as_if_it_were_not_there():
    dataset = recorded(64, 8)
    weights = np.where(np.arange(64) % 4 == 1, 0.0, 1.0 + np.arange(64)).astype(np.float32)
    kept = weights > 0
    fewer = Episodes(dataset.observations[kept], dataset.actions[kept], weights=weights[kept])
    options = {"validation_share": 0.0}
    (one, before), (two, after) = (
        trained(loop_of(episodes, **options)) for episodes in (dataset._replace(weights=weights), fewer)
    )
    same((one.learner, one.observation_statistics, before), (two.learner, two.observation_statistics, after))
    # Weights that are all alike are no weights.
    alike, none = (trained(loop_of(dataset._replace(weights=w), **options))[0] for w in (np.full(64, 3.0), None))
    same(alike.learner, none.learner)


@pytest.mark.slow
def test_weights_may_be_a_function_of_an_episode():
    dataset = recorded(64, 8)._replace(rewards=np.arange(64, dtype=np.float32))
    found = []

    def weights(episode):
        assert episode.starts.tolist() == [True] + [False] * 7
        found.append(episode.rewards[0])
        return episode.rewards + 1.0

    one = trained(loop_of(dataset, weights=weights))[0]
    assert found == list(range(0, 64, 8))
    same(one.learner, trained(loop_of(dataset._replace(weights=np.arange(64) + 1.0)))[0].learner)


@pytest.mark.parametrize("network", ["mlp", pytest.param("gru", marks=pytest.mark.slow)])
@pytest.mark.without("jax_disable_jit")  # One of the errors is that of jax.jit.
def test_chunks_hold_each_row_once_and_train_the_same_loop(network):
    dataset = recorded(96, 12)
    options = {"network": network, "sequence_length": 4, "validation_share": 0.25, "burn_in": 0}
    whole, parts = (loop_of(dataset, **options, chunk_size=size) for size in (2**20, 200))
    (one, before), (two, after) = trained(whole, 1), trained(parts, 1)
    for part in ("count", "mean", "m2"):
        found = (getattr(state.observation_statistics, part) for state in (one, two))
        np.testing.assert_allclose(*found, rtol=1e-5)
    assert before["score"] != after["score"]
    np.testing.assert_allclose(before["score"], after["score"], atol=0.05)
    with pytest.raises(ValueError, match=r"chunk_size: expected the dataset in one chunk inside jax.jit, got \d+"):
        jax.jit(parts.step)(one)
    length = None if network == "mlp" else 4
    source = bc.samples.Source(dataset, dataset.starts, 1.0, Box(shape=(2,)), 0, length)
    counted = np.arange(96) // 8 % 3 != 0
    chunks = bc.samples.Chunks(source, counted, 200, 2)
    read = [chunks[i] for i in range(len(chunks))]
    assert len(read) > 3
    seen = np.concatenate([samples.observations[np.asarray(samples.weights) > 0] for samples in read])
    np.testing.assert_array_equal(seen, dataset.observations[counted])


@pytest.mark.without("jax_debug_key_reuse")
def test_sequences_begin_with_the_memory_of_the_rows_before_them():
    """The loss of a sequence is that of the episode unrolled from its start, if the burn-in reaches it."""
    dataset = recorded(24, 2, actions=2)
    options = {"network": "gru", "recurrent_size": 4, "sequence_length": 4, "burn_in": 8, "variance_weight": 0.0}
    loop = loop_of(dataset, batch_size=24, **options)
    state = loop.init(jax.random.key(0))
    _, metrics = loop.step(state)
    seen, policy = normalize.apply(state.observation_statistics, dataset.observations)[:, None], loop.policy
    unrolled = policy.evaluate(
        state.params,
        seen,
        raw_actions=dataset.actions[:, None],
        carry=policy.initial_carry((1,)),
        resets=dataset.starts[:, None],
    )
    np.testing.assert_allclose(metrics["log_prob"], np.mean(unrolled.log_prob) / 2, rtol=1e-5)
    without = loop_of(dataset, batch_size=24, **{**options, "burn_in": 0})
    assert abs(without.step(state)[1]["log_prob"] - metrics["log_prob"]) > 1e-4


@pytest.mark.slow
def test_memory_clones_a_teacher_that_acts_on_what_is_hidden():
    """The teacher acts on the change of a position; a single position does not show it."""
    rng = np.random.default_rng(0)
    position = rng.uniform(-1.0, 1.0, (200, 20))
    velocity = np.diff(position, axis=1, prepend=position[:, :1])
    starts = np.zeros((200, 20), bool)
    starts[:, 0] = True
    flat = (position.reshape(-1, 1), 0.5 * velocity.reshape(-1, 1), starts.reshape(-1))
    errors = {}
    for network in ("mlp", "lstm"):
        options = {"batch_size": 160, "sequence_length": 10, "learning_rate": 1e-2, "recurrent_size": 16}
        loop = loop_of(Episodes(*flat), space=1, network=network, **options)
        errors[network] = float(trained(loop, 30)[1]["validation_mean_error"])
    assert errors["lstm"] < 0.1 * errors["mlp"]


NESTED = Dict((("camera", Box(0, 255, (4, 4, 3), "uint8")), ("more", Dict((("mode", Discrete(3)), ("place", 2))))))


def nested(count):
    rng = np.random.default_rng(0)
    place = rng.normal(5.0, 2.0, (count, 2)).astype(np.float32)
    camera = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
    seen = {"camera": camera, "more": {"mode": rng.integers(0, 3, count), "place": place}}
    return Episodes(seen, np.tanh(0.2 * (place[:, :1] - 5.0)), np.arange(count) % 8 == 0)


@pytest.mark.parametrize("network", ["mlp", pytest.param("lstm", marks=pytest.mark.slow)])
def test_nested_observations_keep_their_dtypes_and_only_floats_have_statistics(network):
    options = {"network": network, "sequence_length": 4, "augment": 1, "loss": "log_prob"}
    loop = loop_of(nested(64), space=NESTED, **options)
    state, metrics = trained(loop, 20)
    statistics = state.observation_statistics
    assert statistics["camera"] is statistics["more"]["mode"] is None
    # Weights of rows are not counted, and one of eight episodes trains nothing.
    assert statistics["more"]["place"].count == 64
    first = loop.step(loop.init(jax.random.key(0)))[1]
    assert metrics["log_prob"] > first["log_prob"] + 0.1


def test_images_are_shifted_and_their_edges_repeated():
    images = np.random.default_rng(0).integers(0, 256, (50, 5, 6, 3), np.uint8)
    space = Dict((("camera", Box(0, 255, (5, 6, 3), "uint8")), ("place", 2)))
    place = np.ones((50, 2), np.float32)
    shifted = bc.samples.shifted(space, {"camera": images, "place": place}, jax.random.key(0), 2)
    np.testing.assert_array_equal(shifted["place"], place)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), "edge")
    windows = {(dy, dx): padded[:, dy : dy + 5, dx : dx + 6] for dy in range(5) for dx in range(5)}
    found = {
        next(offset for offset, window in windows.items() if (window[i] == image).all())
        for i, image in enumerate(np.asarray(shifted["camera"]))
    }
    assert len(found) > 15
    assert shifted["camera"].dtype == np.uint8


REFUSED = {
    "no episodes to validate on": (
        {"validation_share": 0.2},
        {"starts": None},
        "validation_share: expected a dataset of 2 or more episodes to hold some out, got rows without `starts`",
    ),
    "one episode": (
        {"validation_share": 0.2},
        {"starts": np.arange(32) == 0},
        "validation_share: .* got 1. Mark the first row",
    ),
    "patience without validation": (
        {"patience": 3},
        {},
        "patience: expected validation episodes, whose score tells when to stop, got none",
    ),
    "memory without episodes": ({"network": "gru", "batch_size": 16}, {"starts": None}, "dataset: expected the first"),
    "no images": ({"augment": 2}, {}, "augment: expected images of dtype uint8"),
    "few rows": ({"batch_size": 64}, {}, "batch_size: expected at most the 32 rows to train on, got 64"),
    "no weight": ({}, {"weights": np.zeros(32)}, "weights: expected a number above 0 for some row"),
    "a negative weight": ({}, {"weights": -np.ones(32)}, "dataset: weights: expected weights of 0 or more"),
    "an action outside": ({}, {"actions": np.full((32, 1), 1.5)}, "dataset: actions: expected .* in episode 0, step 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_data_that_lacks_what_an_option_needs_is_refused(name):
    options, fields, says = REFUSED[name]
    with pytest.raises(ValueError, match=says):
        loop_of(recorded(32, 4)._replace(**fields), space=2, **options)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (
            lambda episode: np.ones(3),
            r"weights: expected 8 finite numbers of 0 or more for episode 0, got \(3,\)",
        ),
        (lambda episode: -np.ones(8), "weights: expected 8 finite numbers .* from -1.0 to -1.0"),
        (lambda episode: np.zeros(8), "weights: expected a number above 0 for some row"),
    ],
)
def test_a_function_that_returns_no_weights_is_refused(weights, says):
    with pytest.raises(ValueError, match=says):
        loop_of(recorded(32, 4), weights=weights)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss": "mse"}, "loss: expected one of .*mean_squared_error"),
        ({"network": "lstm", "sequence_length": 3}, "sequence_length: expected a divisor of batch_size = 256, got 3"),
        ({"validation_share": 1.0}, "validation_share: expected a number from 0 to below 1"),
        ({"augment": -1}, "augment: expected 0 or more, got -1"),
    ],
)
def test_options_without_a_meaning_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        bc.Config(**options)


def test_a_dataset_of_lists_and_columns_trains_like_its_arrays():
    dataset = recorded(32, 4)._replace(weights=np.ones(32, np.float32))
    other = dataset._replace(actions=dataset.actions.tolist(), starts=dataset.starts[:, None], weights=np.ones((32, 1)))
    policy = loop_of(dataset).policy
    loops = (bc.make(each, policy, bc.Config(**SMALL, validation_share=0.25)) for each in (dataset, other))
    same(*(trained(loop, 1)[0].learner for loop in loops))
    with pytest.raises(TypeError, match=r"weights: expected a function of an episode, got ndarray"):
        bc.make(dataset, policy, bc.Config(**SMALL), weights=np.ones(32))


def test_episodes_without_a_weight_are_not_held_out():
    """Whichever episode is good, the others have no weight for the validation."""
    for good in (range(12), range(12, 24), range(0, 24, 2)):
        weights = np.repeat(np.isin(np.arange(24), good), 4)
        found = split(recorded(96, 24)._replace(weights=weights.astype(np.float32)), None, None)
        assert found.validation.sum() == 4
        np.testing.assert_array_equal(found.validation | found.training, weights)


@pytest.mark.slow
def test_rows_on_disk_train_like_rows_in_memory(tmp_path):
    dataset = recorded(96, 12)
    np.savez(tmp_path / "data.npz", **{name: leaf for name, leaf in dataset._asdict().items() if leaf is not None})
    mapped = np.lib.format.open_memmap(tmp_path / "seen.npy", "w+", np.float32, dataset.observations.shape)
    mapped[:] = dataset.observations
    for other in (data.read_dataset(tmp_path / "data.npz"), dataset._replace(observations=mapped)):
        same(trained(loop_of(dataset, space=2))[0].learner, trained(loop_of(other, space=2))[0].learner)
