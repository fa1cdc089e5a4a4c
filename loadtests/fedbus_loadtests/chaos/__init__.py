"""Fault runs: a real region under a nemesis, histories recorded by its clients, and a checker that judges them."""
