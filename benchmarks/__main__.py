"""``python -m benchmarks``: workers import this module too, so it does nothing but start."""

if __name__ == "__main__":
    from dnmf import blas_env

    blas_env.prepare()  # before anything imports NumPy: floors and workers use one BLAS kernel

    from benchmarks.cli import main

    main()
