"""Reading what people upload, in a confined child process."""
