"""The measured child: a process of its own, with limits and a control group."""
