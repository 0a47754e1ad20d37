"""Random transfers by several threads, on the fake accelerator with all that may go wrong; see `rounds.run`."""
