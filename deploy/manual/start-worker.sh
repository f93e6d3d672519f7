#!/usr/bin/env bash
# Start a worker of the cluster whose scheduler wrote FILE. Run it on every machine.
#
#   ./start-worker.sh FILE [options of dask worker]
#   ./start-worker.sh /shared/cluster.json --nthreads 4 --memory-limit 16GiB
set -eu
if [ $# -lt 1 ]; then
    echo "usage: $0 FILE [options of dask worker]" >&2
    exit 2
fi
file=$1
shift
# dnmf runs one task per thread; BLAS and OpenMP must not start threads of their own.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
# The same kernels as the command line chooses, so that a fit without a cluster has the same bits.
core=$(python -c 'from dnmf import blas_env; print(blas_env.prepare() or "")')
if [ -n "$core" ]; then
    export OPENBLAS_CORETYPE="$core"
fi
# Buffers that are freed are used again, up to 64 MiB, instead of zeroed pages of the system.
export MALLOC_TRIM_THRESHOLD_=67108864 MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_ARENA_MAX=1
# No samples of every thread's stack: in CPython 3.11 taking them may end the worker now and then.
export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED="${DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED:-False}"
exec dask worker --scheduler-file "$file" "$@"
