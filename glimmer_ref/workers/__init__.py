"""Work that is spread over other processes: those of this machine, or of other machines through a dask cluster.

`tasks` runs any function for many tasks, and `parts` cuts a file of passages into tasks. What a task does is said where
the work belongs: `memory.workers`, `retrieval.dense_workers`, `evaluation.workers`.
"""
