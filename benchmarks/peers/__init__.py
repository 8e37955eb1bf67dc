"""Contestants: one file each, all with the same few methods; see `glimmer_ref.bench.process.Contestant`."""
