"""Records of runs and what is drawn from them; imports without torch."""

from qaprune_lib.report.code import code_digest
from qaprune_lib.report.records import (
    Record,
    read_record,
    read_records,
    record_path,
    run_id,
    to_frame,
    write_record,
)
from qaprune_lib.report.system import environment

__all__ = [
    "Record",
    "code_digest",
    "environment",
    "read_record",
    "read_records",
    "record_path",
    "run_id",
    "to_frame",
    "write_record",
]
