"""A farm of real hosts on one machine: systemd-nspawn boards with their own sshd and power switch.

By hand: ``python -m tests.farm --help`` from the repository's root. Needs root.
"""
