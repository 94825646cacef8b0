"""Torch's counterparts of the functions in `jax.numpy`: derivatives, and programs of torch.compile."""

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

import gaussjax.torch  # noqa: F401  With it the formulas run on tensors.
from gaussjax.core.arrays import like_actions, on_bounds
from gaussjax.distributions.quadrature import expected_log_det
from gaussjax.distributions.special import expm1_minus_x, log_normal_cdf, scale_divergence, tanh, tanh_log_det
from gaussjax.distributions.squashed import raw_mode

# torch's own forward mode calls torch.jit.script, which torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")

# Points away from the seams of the formulas, where central differences of one side are meaningless.
ONE, OTHER = torch.tensor([-2.3, -0.4, 0.6, 1.7]).double(), torch.tensor([0.3, -0.8, -1.2, 0.5]).double()
FUNCTIONS = {
    "expm1_minus_x": (expm1_minus_x, (ONE,)),
    "log_normal_cdf": (log_normal_cdf, (ONE,)),
    "tanh_log_det": (tanh_log_det, (ONE,)),
    "scale_divergence": (scale_divergence, (ONE, OTHER)),
    "expected_log_det": (expected_log_det, (ONE, OTHER)),
    "raw_mode": (raw_mode, (ONE, OTHER - 1.0)),
}


@pytest.fixture(params=FUNCTIONS)
def case(request):
    return FUNCTIONS[request.param]


def test_first_and_second_derivatives_are_those_of_central_differences(case):
    function, points = case
    inputs = tuple(point.clone().requires_grad_() for point in points)
    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, inputs, check_fwd_over_rev=True, check_rev_over_rev=True)


def test_all_four_orders_of_two_modes_agree(case):
    function, points = case

    def total(stacked):
        return function(*stacked).sum()

    stacked = torch.stack(points)
    expected = jacrev(jacrev(total))(stacked)
    for found in (jacfwd(jacfwd(total)), jacfwd(jacrev(total)), jacrev(jacfwd(total)), hessian(total)):
        torch.testing.assert_close(found(stacked), expected, rtol=1e-9, atol=1e-9)
    one_by_one = torch.stack([jacfwd(jacfwd(total))(column) for column in stacked.T[..., None]])
    torch.testing.assert_close(vmap(jacfwd(jacfwd(total)))(stacked.T[..., None]), one_by_one)


def test_the_third_derivative_is_right_in_forward_mode():
    def third(x):
        for_each = [tanh_log_det]
        for _ in range(3):
            for_each.append(lambda x, f=for_each[-1]: jvp(f, (x,), (torch.ones_like(x),))[1])
        return for_each[-1](x)

    expected = torch.tanh(ONE)
    torch.testing.assert_close(third(ONE), 4.0 * expected * (1.0 - expected**2), rtol=1e-12, atol=0.0)
    torch.testing.assert_close(vmap(grad(grad(grad(tanh_log_det))))(ONE), third(ONE), rtol=1e-12, atol=0.0)


def test_dual_numbers_carry_the_slope():
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(tanh_log_det(forward_ad.make_dual(ONE, torch.ones_like(ONE)))).tangent
    torch.testing.assert_close(found, -2.0 * torch.tanh(ONE), rtol=1e-12, atol=0.0)


def _total(x):
    return tanh(x).sum()


def _forward(function):
    return lambda x: jvp(function, (x,), (torch.ones_like(x),))[1]


ORDERS = {
    "reverse": grad(_total),
    "forward": _forward(tanh),
    "forward over reverse": _forward(grad(_total)),
    "reverse over forward": grad(_forward(_total)),
    "reverse over reverse": grad(lambda x: grad(_total)(x).sum()),
    "hessian": hessian(_total),
    "vmap": vmap(grad(_total)),
}


# This backend traces the program and its derivatives, and needs no C compiler.
def _compiled(function):
    return torch.compile(function, backend="aot_eager", fullgraph=True)


@pytest.mark.filterwarnings("ignore:.*autograd.Function")
@pytest.mark.parametrize("order", ORDERS)
def test_a_program_of_torch_compile_has_the_derivatives_of_the_formula(order):
    # At -21 torch's own derivative of tanh is 0.
    x = torch.tensor([-21.35, 0.1, 2.0])
    torch.testing.assert_close(_compiled(ORDERS[order])(x), ORDERS[order](x), rtol=1e-6, atol=0.0)


@pytest.mark.filterwarnings("ignore:.*autograd.Function")
def test_torch_compile_refuses_a_second_forward_derivative():
    with pytest.raises(Exception, match=r"torch\.compile: expected at most one forward derivative"):
        _compiled(_forward(_forward(_total)))(ONE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_compiled_program_rounds_bounds_inwards(dtype):
    sides = np.array([-0.1, -1 / 3, -np.inf]), np.array([0.3, 0.7, 1e39])
    actions = torch.tensor([[-0.1, 0.7, 0.2], [0.3, -1.0, 5.0]]).to(dtype)
    torch.compiler.reset()
    for found in (like_actions, on_bounds):
        compiled = _compiled(lambda x, found=found: found(*sides, x))
        torch.testing.assert_close(compiled(actions), found(*sides, actions), rtol=0.0, atol=0.0)
