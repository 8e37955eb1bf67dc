"""Engines: one file for each, all with the methods of `glimmer_ref.bench.process.Engine`."""
