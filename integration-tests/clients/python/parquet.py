"""Prints the rows of the Parquet files in a folder, the oldest file first, each as a line of JSON."""

import json
import pathlib
import sys

import pyarrow.parquet

for file in sorted(pathlib.Path(sys.argv[1]).glob("[!.]*.parquet")):
    for row in pyarrow.parquet.read_table(file).to_pylist():
        print(json.dumps(row, default=str))
