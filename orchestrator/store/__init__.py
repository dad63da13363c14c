"""The truth: SQL tables, their migrations, and the content-addressed blobs beside them."""
