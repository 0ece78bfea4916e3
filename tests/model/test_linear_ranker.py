import numpy as np
import torch

from llmrec_spark.model.linear_ranker import fit_linear_ranker
from llmrec_spark.model.losses import list_loss


def random_lists(seed, lists=40):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(lists, 6, 3)) * [1.0, 10.0, 0.1] + [0.0, 5.0, 2.0]
    clicked = rng.random((lists, 6)) < 1 / (1 + np.exp(-2 * features[..., 0]))
    present = np.arange(6) < rng.integers(3, 7, lists)[:, None]
    return torch.as_tensor(features).float(), torch.as_tensor(clicked), torch.as_tensor(present)


def test_the_weights_are_where_the_penalised_loss_is_least():
    features, clicked, present = random_lists(0)
    found = fit_linear_ranker(features, clicked, present, penalty=0.01)
    standard = torch.as_tensor(found.standardised(features.double().numpy()))

    def loss(weights):
        scores = standard @ torch.as_tensor(weights)
        return float(list_loss(scores, clicked, present)) + 0.005 * (weights**2).sum()

    least = loss(found.weights)
    for feature in range(3):
        for step in (-0.05, 0.05):
            assert loss(found.weights + step * np.eye(3)[feature]) > least


def test_slopes_add_up_but_for_a_constant_also_where_outliers_are_clipped():
    features, clicked, present = random_lists(1)
    found = fit_linear_ranker(features, clicked, present)
    values = features.double().numpy()
    values[:5, :, 0] = 1e9
    np.testing.assert_allclose(found.standardised(values)[:5, :, 0], 5.0)
    values[5:9, :, 1] = 0.0  # beyond the bounds, were it 0 less
    rest = found.score(values) - (found.slopes * values + found.clipped(values)).sum(axis=2)
    np.testing.assert_allclose(rest, -(found.weights * found.mean / found.spread).sum(), rtol=1e-6)


def test_what_the_offset_explains_is_not_learned_again():
    features, _, present = random_lists(3, lists=400)
    offset = 3.0 * features[..., 2]
    clicked = torch.rand(offset.shape, generator=torch.Generator().manual_seed(0)) < torch.sigmoid(offset - 6.0)
    with_it = fit_linear_ranker(features, clicked, present, offset=offset, penalty=0.0001).weights[2]
    without = fit_linear_ranker(features, clicked, present, penalty=0.0001).weights[2]
    assert abs(with_it) < 0.2 * abs(without)


def test_a_constant_feature_has_no_weight_and_nothing_to_learn_from_gives_zeros():
    features, clicked, present = random_lists(2)
    features[..., 1] = 7.0
    assert fit_linear_ranker(features, clicked, present).weights[1] == 0
    nothing = fit_linear_ranker(torch.zeros(0, 0, 3), torch.zeros(0, 0).bool(), torch.zeros(0, 0).bool())
    assert nothing.score(np.ones((2, 3))).tolist() == [0, 0]
