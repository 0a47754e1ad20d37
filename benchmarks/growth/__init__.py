"""How what a call takes grows with the work: measured, fitted, drawn. ``make growth``."""
