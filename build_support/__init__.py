"""What setup.py needs beside setuptools and torch."""
