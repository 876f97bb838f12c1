"""Limits: closed forms and reference algorithms.

Rates are in bits, distortions are squared error summed over the vector.
"""
