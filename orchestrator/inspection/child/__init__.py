"""The confined child: it parses what people sent, under rlimits, Landlock and seccomp."""
