"""A farm of hosts on one machine: systemd-nspawn containers, each with an sshd and a power switch.

From a shell: ``python -m tests.farm --help`` in the repository's root. Needs root.
"""
