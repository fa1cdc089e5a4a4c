"""Benchmarks of fedbus side by side with other buses: ``fedbus bench``.

Every bench is a ratio: ours and the peers' rounds interleaved in one session on one machine, medians over the rounds,
the same payload, and the durability class of each system said.
"""
