"""Measurements of the hardware: synthesis, place and route, cycles."""
