"""A model that broke in the last step of an epoch is not saved."""

import pytest
import torch
from torch import nn

from reclmis.training.finite import NonFiniteModelError, check_finite, shortened


def model():
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["0.weight", "1.running_mean"])
def test_weights_and_statistics_are_looked_at_and_named(name, value):
    part = model()
    check_finite(part, 3)
    with torch.no_grad():
        part.state_dict()[name].view(-1)[1] = value
    with pytest.raises(NonFiniteModelError, match=rf"After epoch 3, {name} of the model"):
        check_finite(part, 3)


def test_a_long_list_of_names_is_shortened():
    assert shortened(["a", "b", "c"]) == "a, b, c"
    assert shortened(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
