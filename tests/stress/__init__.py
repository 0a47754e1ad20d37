"""Random transfers on the fake accelerator, by several threads, with all that may go wrong; see `rounds.run`."""
