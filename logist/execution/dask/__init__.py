"""Runs commands on the workers of a Dask cluster: `adapter.py` here, `errand.py` there. Needs the extra `dask`."""
