"""HDF5 files (h5ad, 10x, NetCDF4) as read-only Zarr stores, which every reader of Zarr reads.

Metadata are asked of h5py. Chunks are read from the file by their place in it and decoded here,
by as many threads and processes as read Zarr: HDF5 itself lets one thread in at a time.
"""
