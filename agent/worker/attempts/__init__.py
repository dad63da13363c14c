"""One attempt: fetch, convert, measure, and keep the result."""
