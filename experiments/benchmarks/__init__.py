"""What `bench.py` times, and how."""
