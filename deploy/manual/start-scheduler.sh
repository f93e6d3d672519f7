#!/usr/bin/env bash
# Start the scheduler of a Dask cluster. It writes its address into FILE, which must be on storage
# that the machines of all workers see.
#
#   ./start-scheduler.sh FILE [options of dask scheduler]
set -eu
if [ $# -lt 1 ]; then
    echo "usage: $0 FILE [options of dask scheduler]" >&2
    exit 2
fi
file=$1
shift
exec dask scheduler --scheduler-file "$file" "$@"
