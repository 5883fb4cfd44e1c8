"""Pruning: how much may stay (budgets), the slicing itself, and what leaves for other software."""

from qaprune_lib.pruning.budget import MACs, Parameters, Speedup
from qaprune_lib.pruning.export import ExportReport, export_onnx
from qaprune_lib.pruning.latency import LatencyTable, measure_latency
from qaprune_lib.pruning.reconstruction import Mended, reconstruct
from qaprune_lib.pruning.runtimes import in_runtime
from qaprune_lib.pruning.slicing import prune

__all__ = [
    "ExportReport",
    "LatencyTable",
    "MACs",
    "Mended",
    "Parameters",
    "Speedup",
    "export_onnx",
    "in_runtime",
    "measure_latency",
    "prune",
    "reconstruct",
]
