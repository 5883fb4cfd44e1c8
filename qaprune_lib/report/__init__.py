"""Records of runs and what is drawn from them; imports without torch."""

from qaprune_lib.report.records import (
    Record,
    read_record,
    read_records,
    record_path,
    to_frame,
    write_record,
)
from qaprune_lib.report.system import code_digest, environment

__all__ = [
    "Record",
    "code_digest",
    "environment",
    "read_record",
    "read_records",
    "record_path",
    "to_frame",
    "write_record",
]
