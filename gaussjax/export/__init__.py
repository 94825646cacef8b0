"""Export of policies as programs for machines without gaussjax."""

from gaussjax.export import numpy_act as numpy_act
from gaussjax.export.numpy import numpy as numpy
from gaussjax.export.program import Program as Program
from gaussjax.export.program import onnx as onnx
from gaussjax.export.program import stablehlo as stablehlo
