"""The confined child: parses uploaded files under rlimits, Landlock and seccomp."""
