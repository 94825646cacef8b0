"""How the accuracy tests run what they measure."""

import pytest

# Step by step every operation is compiled alone, which takes minutes and says the same: `make test-full`.
EAGER_AND_JIT = [pytest.param(False, id="eager", marks=pytest.mark.slow), pytest.param(True, id="jit")]
