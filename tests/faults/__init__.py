"""Damage to files by crashes, other programs and attackers."""
