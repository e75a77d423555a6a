"""One attempt: which ranges are fetched by which connections, what follows from a failure, when a file is done."""
