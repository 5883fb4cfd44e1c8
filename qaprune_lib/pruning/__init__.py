"""Pruning: what stays (`Topology`), how much may stay (budgets), and the slicing itself."""

from qaprune_lib.pruning.budget import BlockCosts, Budget, MACs, Parameters, Speedup
from qaprune_lib.pruning.export import ExportReport, export_onnx
from qaprune_lib.pruning.latency import LatencyTable, measure_latency
from qaprune_lib.pruning.slicing import prune
from qaprune_lib.pruning.topology import Topology

__all__ = [
    "BlockCosts",
    "Budget",
    "ExportReport",
    "LatencyTable",
    "MACs",
    "Parameters",
    "Speedup",
    "Topology",
    "export_onnx",
    "measure_latency",
    "prune",
]
