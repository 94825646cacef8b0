"""The test files of each peer, the classes that ours replace in them, and the tests that do not apply to ours."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Suite(NamedTuple):
    """A test file of a peer.

    Attributes:
        peer: Last word of the module `tests.peers.in_*` with the adapters.
        file: Path of the test file within the sources of the peer.
        replaced: Classes that the test file imports; each becomes the adapter of the same name.
        exceptions: Regular expressions that match all of `Class::test`, each with the reason why ours fails there.
        selected: Regular expression for `Class::test`; the other tests are about other distributions.
        not_run: Regular expression for the exceptions that would need too much time or memory.
    """

    peer: str
    file: str
    replaced: tuple[str, ...]
    exceptions: Mapping[str, str] = MappingProxyType({})
    selected: str = ".*"
    not_run: str = "(?!)"


_FACTOR = "ours takes no factor and no covariance: the peer's constructor checks them and the bridge converts them"
_SIGN = "ours keeps the factor whose diagonal is positive; the test asks for the factor as it was given"

_QUANTILE = "asks for quantiles, which ours does not have: a policy is sampled and scored"
_DEFERRED = "counts how often TFP reads its deferred variables"

_DISTRAX = "distrax._src.distributions."
_DISTRAX_NORMAL = f"{_DISTRAX}normal.Normal"
_DISTRAX_DIAG = f"{_DISTRAX}mvn_diag.MultivariateNormalDiag"
_DISTRAX_TRI = f"{_DISTRAX}mvn_tri.MultivariateNormalTri"
_DISTRAX_FULL = f"{_DISTRAX}mvn_full_covariance.MultivariateNormalFullCovariance"
_DISTRAX_SUITES = (
    Suite(
        "distrax",
        "distributions/normal_test.py",
        (_DISTRAX_NORMAL,),
        {
            "NormalTest::test_slice_different_parameterization": "the standard deviations that the test draws are "
            "partly negative, and ours holds their logarithm"
        },
    ),
    Suite("distrax", "distributions/normal_float64_test.py", (_DISTRAX_NORMAL,)),
    Suite(
        "distrax",
        "distributions/log_stddev_normal_test.py",
        (f"{_DISTRAX}log_stddev_normal.LogStddevNormal", _DISTRAX_NORMAL),
        {
            "LogStddevNormalTest::test_custom_kl_registered": "asks for one private function of distrax in a private "
            "table of TFP"
        },
    ),
    Suite("distrax", "distributions/mvn_diag_test.py", (_DISTRAX_DIAG,)),
    Suite(
        "distrax",
        "distributions/mvn_tri_test.py",
        (_DISTRAX_TRI,),
        {
            r"MultivariateNormalTriTest::test_properties_.*": _SIGN,
            r"MultivariateNormalTriTest::test_raises_on_wrong_inputs_"
            r"(all inputs are None|scale_tri is not square|wrong dimension of loc)": _FACTOR,
        },
    ),
    Suite(
        "distrax",
        "distributions/mvn_full_covariance_test.py",
        (_DISTRAX_FULL,),
        {
            r"MultivariateNormalFullCovarianceTest::test_raises_on_wrong_inputs_(all inputs are None|"
            r"covariance_matrix is (0d|1d|not square)|wrong dimension of loc)": _FACTOR
        },
    ),
    Suite(
        "distrax",
        "distributions/mvn_from_bijector_test.py",
        (f"{_DISTRAX}mvn_from_bijector.MultivariateNormalFromBijector",),
        {
            r"MultivariateNormalFromBijectorTest::test_raises_on_wrong_inputs_.*": "the test's linear bijector has no "
            "matrix",
            r"MultivariateNormalFromBijectorTest::test_loc_scale_and_shapes_.*": "ours keeps no bijector",
            r"MultivariateNormalFromBijectorTest::test_log_prob__(with(out)?_device|without_jit)": "compares with TFP "
            "to 2e-7, where TFP is further from the exact value than ours",
        },
    ),
    Suite(
        "distrax",
        "distributions/mvn_kl_test.py",
        (_DISTRAX_DIAG, _DISTRAX_FULL, _DISTRAX_TRI),
    ),
    Suite(
        "distrax",
        "distributions/independent_test.py",
        (f"{_DISTRAX}independent.Independent", _DISTRAX_DIAG, _DISTRAX_NORMAL),
        {
            r".*NormalTest::test_invalid_parameters": "asks for an error about the number of axes; ours always "
            "takes the last axis as the action"
        },
    ),
    Suite(
        "distrax",
        "distributions/transformed_test.py",
        (f"{_DISTRAX}transformed.Transformed", _DISTRAX_NORMAL),
    ),
    Suite(
        "distrax",
        "bijectors/tanh_test.py",
        ("distrax._src.bijectors.tanh.Tanh",),
        {
            r"TanhTest::test_stability__.*": "asks for TFP's NaN and infinity at actions on a bound, where ours is "
            "finite by design"
        },
    ),
    Suite(
        "distrax",
        "distributions/clipped_test.py",
        (f"{_DISTRAX}clipped.ClippedNormal",),
        {
            r"ClippedTest::test_(batched_)?clipped_logprob1": "asks for a density of 0 beyond a bound; there ours "
            "gives the probability of the bound, because rounding may put a clipped action there"
        },
    ),
)

_TFP = "tensorflow_probability.substrates.jax."
_TFP_NORMAL = f"{_TFP}distributions.normal.Normal"
_TFP_DIAG = f"{_TFP}distributions.mvn_diag.MultivariateNormalDiag"
_TFP_TRIL = f"{_TFP}distributions.mvn_tril.MultivariateNormalTriL"
_TFP_TANH = f"{_TFP}bijectors.tanh.Tanh"
_TFP_SUITES = (
    Suite(
        "tfp",
        "distributions/normal_test.py",
        (_TFP_NORMAL,),
        {
            r"NormalTest::test(NormalQuantile|QuantileFiniteGradient.*|SampleLikeArgsGetDistDType)": _QUANTILE,
            r"NormalTest::testNormal(StandardDeviation|Variance)": "asks for exactly 7 and 49; ours holds the rounded "
            "logarithm of 7",
        },
    ),
    Suite("tfp", "distributions/mvn_diag_test.py", (_TFP_DIAG, _TFP_NORMAL)),
    Suite(
        "tfp",
        "distributions/mvn_tril_test.py",
        (_TFP_TRIL, _TFP_NORMAL),
        {
            r"MultivariateNormalTriLTest::test_kahan_precision.*": "2500 dimensions with a full covariance; ours "
            "compiles one step for each dimension, which suits the actions of a robot"
        },
        not_run=r".*::test_kahan_precision.*",
    ),
    Suite(
        "tfp",
        "distributions/mvn_full_covariance_test.py",
        (f"{_TFP}distributions.mvn_full_covariance.MultivariateNormalFullCovariance",),
    ),
    Suite(
        "tfp",
        "distributions/mvn_linear_operator_test.py",
        (f"{_TFP}distributions.mvn_linear_operator.MultivariateNormalLinearOperator",),
    ),
    Suite(
        "tfp",
        "distributions/independent_test.py",
        (f"{_TFP}distributions.independent.Independent", _TFP_DIAG, _TFP_NORMAL),
        {
            r"IndependentDistributionTest::testKLRaises": "asks for an error where ours computes the divergence",
            r"IndependentDistributionTest::testKlWithDynamicShapes": "asks for variables of unknown shape",
        },
    ),
    Suite(
        "tfp",
        "distributions/transformed_distribution_test.py",
        (_TFP_NORMAL, _TFP_DIAG, _TFP_TRIL, _TFP_TANH),
        {
            r"TransformedDistributionTest::test(CdfDescending(Chained)?|Quantile(Descending)?|SfDescending)": _QUANTILE,
            r"ExcessiveConcretizationTest(UnknownShape)?::testExcessiveConcretizationOfParams": _DEFERRED,
        },
    ),
    Suite(
        "tfp",
        "distributions/truncated_normal_test.py",
        (f"{_TFP}distributions.truncated_normal.TruncatedNormal", _TFP_NORMAL),
        {
            r"TruncatedNormalTestCompareWithScipy::testQuantile.*": _QUANTILE,
            r"TruncatedNormalStandaloneTestCase::testReparametrizable[01]": "differentiates by the bounds; those of "
            "ours are constants of the action space",
            r"TruncatedNormalStandaloneTestCase::testSampleXLA": "TFP makes traced arrays of the bounds inside jit; "
            "those of ours are constants",
        },
    ),
    Suite("tfp", "distributions/logitnormal_test.py", (f"{_TFP}distributions.logitnormal.LogitNormal", _TFP_NORMAL)),
    Suite("tfp", "bijectors/tanh_test.py", (_TFP_TANH,)),
)

_GENERIC = (
    "repr|sample_detached|rsample_requires_grad|enumerate_support_type|lazy_property_grad|support_attributes|"
    "distribution_(subclass_)?expand|normal(_sample)?|multivariate_normal_.*|independent_.*|cdf_.*|"
    "(in)?valid_parameter_broadcasting|mode"
)
_TORCH_SUITES = (
    Suite(
        "torch",
        "distributions/test_distributions.py",
        ("torch.distributions.Normal", "torch.distributions.MultivariateNormal", "torch.distributions.Independent"),
        {
            r"TestJit::test_sample": "torch.jit.trace cannot record a view of a tensor in another dtype, which our "
            "random bits need, and it asks for torch's generator, where ours takes a key"
        },
        selected=(
            rf"TestDistributions::test_({_GENERIC})|TestDistributionShapes::test_(entropy_shape|normal_.*)|"
            r"TestKL::test_(?!kl_edgecases|kl_lowrank).*|TestConstraints::.*|TestAgainstScipy::.*|"
            r"TestValidation::test_(valid|invalid.*)|TestJit::.*"
        ),
    ),
    Suite(
        "torch",
        "distributions/test_transforms.py",
        (
            "torch.distributions.Normal",
            "torch.distributions.Independent",
            "torch.distributions.transforms.TanhTransform",
        ),
        selected=r".*TanhTransform.*|test_(transformed_distribution|compose|save_load).*",
    ),
)

SUITES = (*_DISTRAX_SUITES, *_TFP_SUITES, *_TORCH_SUITES)
